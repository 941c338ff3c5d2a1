# mypy: disable-error-code="import-untyped"
"""What TensorBoard's HParams tab reads: settings and status of each run, and the columns for all of them.

The columns stand in a file of their own beside the runs, as an experiment.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sweepwise.monitor.tfrecord import SUMMARY, framed, plugin_summary, text_tensor, version_record
from sweepwise.system import atomic

EXPERIMENT_FILE = "events.out.tfevents.0000000000.experiment"


def session_start(values: Mapping[str, bool | int | float | str]) -> bytes:
    """A Summary with a run's hyperparameters: its row in the tab.

    Raises:
        TypeError: A value is not a bool, int, float or str.
    """
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    info = SessionStartInfo(start_time_secs=time.time())
    for key, value in values.items():
        value = _finite_or_text(value)
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[key].number_value = value
        elif isinstance(value, str):
            info.hparams[key].string_value = value
        else:
            raise TypeError(
                f"a hyperparameter is a bool, int, float or str, but {key} is {value!r}; "
                "leave it out or give its text"
            )
    return _summary("session_start_info", info)


def session_end(status: Literal["SUCCESS", "FAILURE", "RUNNING", "UNKNOWN"]) -> bytes:
    """A Summary with a run's final status."""
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    info = SessionEndInfo(status=Status.Value(f"STATUS_{status}"), end_time_secs=time.time())
    return _summary("session_end_info", info)


def write_experiment(
    folder: Path,
    hparams: Mapping[str, Sequence[bool | int | float | str] | None],
    metrics: Sequence[str],
    shown: Collection[str] = (),
) -> None:
    """Writes or replaces the description of an experiment, in the folder that holds its runs.

    Args:
        folder: Of the runs; one file in it is replaced as a whole.
        hparams: Columns of the tab, with the values that runs take; the tab offers these as a filter and
            hides other values. None offers no filter, nor do values of several types.
        metrics: Tags of the scalars that are columns too.
        shown: The hyperparameters that come first.
    """
    from tensorboard.plugins.hparams.api_pb2 import Experiment, MetricInfo, MetricName

    experiment = Experiment(
        hparam_infos=[_hparam_info(key, values) for key, values in hparams.items()],
        metric_infos=[MetricInfo(name=MetricName(tag=tag)) for tag in metrics],
        time_created_secs=time.time(),
    )
    for info in experiment.hparam_infos:
        info.differs = info.name in shown
    record = framed(0, SUMMARY, _summary("experiment", experiment))
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_atomic(folder / EXPERIMENT_FILE, version_record() + record)


def experiment_columns(folder: Path) -> dict[str, bool]:
    """The columns that `write_experiment` last described in a folder, and whether each comes first."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    path = folder / EXPERIMENT_FILE
    content = path.read_bytes() if path.exists() else b""
    columns: dict[str, bool] = {}
    while content:
        end = 12 + int.from_bytes(content[:8], "little")
        for value in Event.FromString(content[12:end]).summary.value:
            experiment = HParamsPluginData.FromString(value.metadata.plugin_data.content).experiment
            columns |= {info.name: info.differs for info in experiment.hparam_infos}
        content = content[end + 4 :]
    return columns


def _summary(field: str, message: Any) -> bytes:
    """A Summary of the plugin with one field of its data."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = HParamsPluginData(version=0, **{field: message}).SerializeToString(deterministic=True)
    return plugin_summary(f"_hparams_/{field}", "hparams", text_tensor(b""), content)


def _hparam_info(key: str, values: Sequence[bool | int | float | str] | None) -> Any:
    """The column of a setting: its name, its type, and the values that it may have."""
    from tensorboard.plugins.hparams.api_pb2 import HParamInfo

    domain = {_finite_or_text(value) for value in values or ()}
    types = {float if type(value) is int else type(value) for value in domain}
    if len(types) != 1:
        return HParamInfo(name=key)
    kind = {bool: "DATA_TYPE_BOOL", float: "DATA_TYPE_FLOAT64", str: "DATA_TYPE_STRING"}[types.pop()]
    info = HParamInfo(name=key, type=kind)
    info.domain_discrete.extend(sorted(domain))
    return info


def _finite_or_text(value: Any) -> Any:
    """NaN and infinity as text: JSON has neither, so the tab would leave them out or fail."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
