"""`prediction.json` in a run's folder: all that a prediction needs beside the weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sweepwise.data.preparation import Preparation
from sweepwise.errors import UsageError
from sweepwise.learner import Precision
from sweepwise.parts import Parts
from sweepwise.store import record
from sweepwise.store.folders import RECORD

PREDICTION = "prediction.json"
GROUPS = ("model", "regularizer")  # of the config, by which a network is built


@dataclass(frozen=True)
class Computing:
    """How a run's network computes, as far as that can change its outputs.

    Attributes:
        config: the groups of the run's config by which the network is built; None: it was built in Python.
        init_seed: with which it is built; of the record.
        device: its kind, such as 'cpu' or 'cuda'.
        threads: of the CPU.
        precision: of the forward pass.
        average: whether the moving average of the parameters is evaluated in their place.
        gradients: whether the network takes gradients in its forward pass.
        deterministic: whether kernels that sum in a varying order are refused.
    """

    config: Mapping[str, Any] | None
    init_seed: int
    device: str
    threads: int
    precision: Precision
    average: bool
    gradients: bool
    deterministic: bool

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision={self.precision} is unknown")
        if type(self.threads) is not int or self.threads < 1 or type(self.init_seed) is not int:
            raise ValueError(f"threads={self.threads} or init_seed={self.init_seed} is no such number")
        config = self.config
        for node in () if config is None else (config["model"], *config["regularizer"].values()):
            if not isinstance(node, dict) or "_target_" not in node:
                raise ValueError(f"{node} has no _target_")


@dataclass(frozen=True)
class Kept:
    """What `prediction.json` holds.

    Attributes:
        preparation: of the inputs.
        computing: of the outputs.
    """

    preparation: Preparation
    computing: Computing


def prediction(parts: Parts, config: Mapping[str, Any] | None = None) -> bytes | None:
    """The content of `prediction.json`; None where `split` has not made the data.

    Runs that differ in seeds have the same; the seed of the network stands in the record.

    Args:
        parts: of the run.
        config: its config; None: it was built in Python.
    """
    if parts.data.preparation is None:
        return None
    settings = parts.settings
    network = {
        "config": None if config is None else {group: config[group] for group in GROUPS},
        "device": parts.data.train.y.device.type,
        "threads": settings.threads,
        "precision": settings.precision,
        "average": settings.ema > 0,
        "gradients": parts.learner.forward.needs_gradients,
        "deterministic": parts.seeds.deterministic,
    }
    text = "{\n" + _prepared(parts.data.preparation) + ",\n" + _lines({"network": network}) + "\n}\n"
    return text.encode("utf-8", "surrogatepass")


@functools.lru_cache(maxsize=1)  # runs of a group share their data
def _prepared(preparation: Preparation) -> str:
    return _lines(preparation.fields())


def _lines(fields: Mapping[str, Any]) -> str:
    """A line a key: without indent, json's encoder is ten times as fast."""
    return ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in fields.items()
    )


def read(folder: Path) -> Kept:
    """What a run has kept in its folder.

    Raises:
        UsageError: it has not, or the file is damaged.
    """
    path = folder / PREDICTION
    try:
        fields = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        if not (folder / RECORD).exists():
            rule = "must be the folder of a run" if folder.is_dir() else "no such folder"
            if any(folder.glob(f"*/{RECORD}")):
                rule += ", and is that of an experiment; sweepwise.best takes its best run"
            raise UsageError([f"{folder}: {rule}"]) from error
        raise UsageError(
            [
                f"{folder}: holds no {PREDICTION}, by which new rows are prepared: an earlier version has "
                "made the run, or its data were not made by split; train it again with fresh=true"
            ]
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError([f"{path}: cannot be read ({error})"]) from error
    try:
        network = fields["network"]
        if "init_seed" not in network:  # a run of an earlier version has it there
            network = network | {"init_seed": _init_seed(folder)}
        return Kept(Preparation.of_fields(fields), Computing(**network))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError([f"{path}: is damaged, or of another version ({error})"]) from error


def _init_seed(folder: Path) -> Any:
    """The seed of a run's network, by its record."""
    try:
        return record.read(folder)["init_seed"]
    except (OSError, KeyError) as error:
        why = f"{RECORD} has no init_seed" if isinstance(error, KeyError) else error
        raise UsageError([f"{folder}: the seed of its network is not known ({why})"]) from error
