"""How rows in their original units become the inputs of a network, and its outputs labels and values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweepwise.data import new_rows
from sweepwise.data.channels import channels_first
from sweepwise.data.filling import Encoding, Feature, Filling
from sweepwise.data.limits import memory
from sweepwise.data.reading import Reading
from sweepwise.data.scaling import Scaling

Label = bool | int | float | str


@dataclass(frozen=True, eq=False)
class Preparation:
    """What `split` has fitted on the training part: it prepares other rows as it has prepared its own.

    Attributes:
        shape: of one example, as a network gets it.
        scaling: of the features, those among them that say where a value was missing.
        filling: of a table's missing values and unknown categories; None: features are numbers, all there.
        reading: how rows of this kind are read.
        labels: what stands in the data for each class; () for regression.
        target_mean: of the training targets; 0 for classification.
        target_std: their deviation; 1 for classification.
    """

    shape: tuple[int, ...]
    scaling: Scaling
    filling: Filling | None
    reading: Reading
    labels: tuple[Label, ...]
    target_mean: float
    target_std: float

    def __call__(self, rows: Any) -> NDArray[np.float32]:
        """Inputs for a network.

        Args:
            rows: unscaled, (rows, features) or (rows, *shape); or columns by name: a dictionary, a frame, a
                pyarrow table; or a list of dictionaries, one a row; or the path of a csv, parquet, npz or npy
                file. Columns that are not needed, such as the target, are ignored. A category that the
                training part did not have counts as none, with a warning; None and NaN are missing.

        Returns:
            (rows, *shape).

        Raises:
            ValueError: a column is absent, holds no numbers, or misses values that cannot be filled in; or
                the shape is another one.
        """
        coded = self.coded(rows)
        if (size := 8 * len(coded) * math.prod(self.shape)) > memory() // 2:
            raise ValueError(
                f"{len(coded)} rows would take {size:,} bytes, more than half of the memory; take them in "
                "parts"
            )
        inputs = self.inputs(coded)
        if not np.isfinite(inputs).all():
            place = int(np.argwhere(~np.isfinite(inputs))[0][1])
            raise ValueError(
                f"{self.called(place)}: has values that are not finite, or too large for float32 once scaled"
            )
        return inputs

    def coded(self, rows: Any) -> np.ndarray:
        """The rows as numbers, unscaled; these an exported network takes.

        Args:
            rows: see `__call__`.

        Returns:
            (rows, ...) as the data's own file has them; of a table (rows, columns), a category as its place
            among those of its column, from 0, -1 if it is none, NaN where a value is missing.

        Raises:
            ValueError: see `__call__`.
        """
        if self.filling is None:
            return new_rows.array(rows, self.shape, self.reading)
        return new_rows.coded(rows, self.filling.encoding.features, self.reading)

    def inputs(self, coded: np.ndarray) -> NDArray[np.float32]:
        """Inputs for a network, from rows as `coded` returns them; they may be not finite."""
        if self.filling is not None:
            return self.scaling(self.filling(self.filling.encoding.raw(coded)))
        if len(self.shape) > 1:
            coded, _ = channels_first("", coded, self.reading.channels or "first")
        return self.scaling(coded)

    def called(self, place: int) -> str:
        """What a feature of a network, or a channel, is called in a message."""
        if self.filling is None:
            return f"feature or channel {place}"
        features = self.filling.encoding.features
        widths = [place for place, feature in enumerate(features) for _ in range(feature.width)]
        return f"column {features[[*widths, *self.filling.indicators][place]].name!r}"

    def fields(self) -> dict[str, Any]:
        """The same as plain values, for `of_fields`."""
        filling = self.filling
        return {
            "shape": list(self.shape),
            "labels": list(self.labels),
            "target": {"mean": self.target_mean, "std": self.target_std},
            "reading": asdict(self.reading),
            "columns": None if filling is None else _columns(filling),
            "missing": None if filling is None else filling.encoding.missing,
            "indicators": [] if filling is None else list(filling.indicators),
            "mean": self.scaling.mean.tolist(),
            "std": self.scaling.std.tolist(),
        }

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Preparation:
        """What `fields` returned.

        Raises:
            ValueError: it has not; KeyError and TypeError likewise.
        """
        shape = tuple(map(int, fields["shape"]))
        scaling = Scaling(np.array(fields["mean"], np.float64), np.array(fields["std"], np.float64))
        np.broadcast_to(scaling.mean, shape), np.broadcast_to(scaling.std, shape)
        filling = None if fields["columns"] is None else _filling(fields)
        if filling is not None and shape != (len(filling.fill) + len(filling.indicators),):
            raise ValueError(f"shape: the columns make other features than {shape}")
        return cls(
            shape,
            scaling,
            filling,
            Reading(**{**fields["reading"], "missing": tuple(fields["reading"]["missing"])}),
            tuple(fields["labels"]),
            float(fields["target"]["mean"]),
            float(fields["target"]["std"]),
        )


def _columns(filling: Filling) -> list[dict[str, Any]]:
    """The columns of a table, with what fills each and which of its categories the training part had."""
    encoding = filling.encoding
    return [
        {
            "name": feature.name,
            "categories": feature.words,
            "known": filling.known[span].tolist(),
            "fill": [None if np.isnan(value) else value for value in filling.fill[span].tolist()],
        }
        for feature, span in zip(encoding.features, encoding.spans(), strict=True)
    ]


def _filling(fields: Mapping[str, Any]) -> Filling:
    columns = fields["columns"]
    features = tuple(
        Feature(column["name"], None if column["categories"] is None else tuple(column["categories"]))
        for column in columns
    )
    for feature, column in zip(features, columns, strict=True):
        if not len(column["fill"]) == len(column["known"]) == feature.width:
            raise ValueError(f"columns: {feature.name!r} has not {feature.width} values")
    if not set(fields["indicators"]) <= set(range(len(features))):
        raise ValueError("indicators: some are no places of columns")
    return Filling(
        Encoding(features, fields["missing"]),
        fill=np.array([np.nan if v is None else v for column in columns for v in column["fill"]], np.float64),
        known=np.array([known for column in columns for known in column["known"]], bool),
        indicators=tuple(fields["indicators"]),
    )
