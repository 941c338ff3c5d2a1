"""What becomes of missing values and unknown categories of a table, fitted on the training part alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweepwise.data.columns import names_listed
from sweepwise.errors import shell_override

Missing = Literal["refuse", "drop", "median", "most_frequent", "indicator"]


@dataclass(frozen=True)
class Feature:
    """A column that a network gets.

    Attributes:
        name: of the column.
        words: its categories, each of which is a feature of 0 and 1; None: its numbers are the feature.
    """

    name: str
    words: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """How many features it is."""
        return 1 if self.words is None else len(self.words)


@dataclass(frozen=True)
class Encoding:
    """What the raw features of a table are.

    Attributes:
        features: in order.
        missing: what is done about missing values, which are NaN in the raw features.
    """

    features: tuple[Feature, ...]
    missing: Missing

    def raw(self, coded: np.ndarray) -> np.ndarray:
        """The raw features: 0 and 1 for each category.

        Args:
            coded: (rows, columns), a category as its place among the words, see `new_rows.coded`.

        Returns:
            (rows, raw features), NaN for all categories where the value is missing.
        """
        blocks = []
        for feature, own in zip(self.features, coded.T[:, :, None], strict=True):
            if feature.words is not None:
                own = np.where(np.isnan(own), np.nan, own == np.arange(feature.width))
            blocks.append(own)
        return np.concatenate(blocks, 1)

    def spans(self) -> list[slice]:
        """The place of each feature in the raw ones."""
        ends = np.cumsum([0, *(feature.width for feature in self.features)]).tolist()
        return [slice(*pair) for pair in itertools.pairwise(ends)]


@dataclass(frozen=True, eq=False)
class Filling:
    """What becomes of missing values and unknown categories.

    Attributes:
        encoding: what the raw features are.
        fill: what a missing value becomes, (raw features,); NaN if missing values are refused.
        known: whether a category is in the training part, (raw features,); one that is not counts as none.
        indicators: the columns, by their place, for which a feature of 0 and 1 says where a value was
            missing; these features come last.
    """

    encoding: Encoding
    fill: NDArray[np.float64]
    known: NDArray[np.bool_]
    indicators: tuple[int, ...] = ()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Raw features, (rows, raw features), without missing values and unknown categories, unscaled.

        Raises:
            ValueError: a value is missing, and the network was trained without any.
        """
        missing, spans = np.isnan(x), self.encoding.spans()
        if missing.any() and np.isnan(self.fill).any():
            which = next(place for place, span in enumerate(spans) if missing[:, span].any())
            name, rule = self.encoding.features[which].name, self.encoding.missing
            raise ValueError(
                f"column {name!r}: values are missing, and the network was trained without any "
                f"(data.missing={rule})"
            )
        if missing.any() or not self.known.all():
            x = np.where(missing, self.fill, x)
            x[:, ~self.known] = 0
        absent = [missing[:, spans[place].start] for place in self.indicators]
        return np.column_stack([x, *absent]) if absent else x


def fit_filling(encoding: Encoding, x: np.ndarray, rows: NDArray[np.int64]) -> tuple[Filling, list[str]]:
    """What fills missing values in, by the training part; and notes on what it does.

    Args:
        encoding: what the raw features are.
        x: (examples, raw features), NaN where a value is missing.
        rows: the training examples.

    Raises:
        ValueError: a column has no value in the training part.
    """
    spans = encoding.spans()
    absent = np.isnan(x)
    counts = [int(absent[:, span.start].sum()) for span in spans] if absent.any() else [0] * len(spans)
    fill, known = np.full(x.shape[1], np.nan), np.ones(x.shape[1], bool)
    for feature, span in zip(encoding.features, spans, strict=True):
        if feature.words is None and encoding.missing in ("refuse", "drop"):
            continue
        values = x[:, span][rows]
        if np.isnan(values).all():
            raise ValueError(
                f"data: column {feature.name!r} has no value among the {len(rows)} training examples; leave "
                f"it out by {shell_override('data.drop', [feature.name])}"
            )
        if encoding.missing not in ("refuse", "drop"):
            fill[span] = _filling(encoding.missing, feature, values)
        if feature.words is not None:
            known[span] = (values == 1).any(0)
    indicators: tuple[int, ...] = ()
    if encoding.missing == "indicator":
        in_training = absent[rows].any(0)
        indicators = tuple(place for place, span in enumerate(spans) if in_training[span.start])
    notes = [*_filled_note(encoding, counts, fill), *_unknown_notes(encoding, known, x)]
    return Filling(encoding, fill, known, indicators), notes


def _filling(missing: Missing, feature: Feature, values: np.ndarray) -> np.ndarray:
    """What a missing value of a column becomes, by its raw features in the training part.

    Returns:
        (1,) a number; or of text the most frequent word, (words,), for an indicator none.
    """
    if feature.words is None:
        from sklearn.impute import SimpleImputer

        strategy = "most_frequent" if missing == "most_frequent" else "median"
        return np.asarray(SimpleImputer(strategy=strategy).fit(values).statistics_)
    word = np.nansum(values, 0).argmax() if missing != "indicator" else -1
    return np.where(np.arange(feature.width) == word, 1.0, 0.0)


def _filled_note(encoding: Encoding, counts: Sequence[int], fill: np.ndarray) -> list[str]:
    if encoding.missing in ("refuse", "drop"):
        return []
    filled = []
    for feature, span, count in zip(encoding.features, encoding.spans(), counts, strict=True):
        value = fill[span]
        if feature.words is None:
            by = f"{value[0]:.6g}"
        else:
            by = feature.words[value.argmax()] if value.any() else "none of its categories"
        if count:
            filled.append(f"{feature.name} ({count}, by {by})")
    return [
        f"data.missing={encoding.missing}: {sum(counts)} missing values of {len(filled)} columns are filled "
        f"in, by the training part: {names_listed(filled) or 'none'}"
    ]


def _unknown_notes(encoding: Encoding, known: np.ndarray, x: np.ndarray) -> list[str]:
    unknown = [
        f"{feature.name}={word} ({int(np.nansum(x[:, span.start + number]))} rows)"
        for feature, span in zip(encoding.features, encoding.spans(), strict=True)
        for number, word in enumerate(feature.words or ())
        if not known[span.start + number]
    ]
    listed = names_listed(unknown)
    return [f"not in the training part, so counted as no category: {listed}"] if unknown else []
