# mypy: disable-error-code="import-untyped"
"""What TensorBoard's HParams tab reads: settings and status of each run, and the columns for all of them.

`columns.py` knows which columns there are.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sweepwise.monitor.tfrecord import plugin_summary, text_tensor

Hparam = bool | int | float | str


class Interval(NamedTuple):
    """The numbers that a hyperparameter takes: from `low` to `high`, both among them."""

    low: float
    high: float


def settings(choices: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, Hparam]:
    """A run's hyperparameters for the tab, which takes no nulls and no lists.

    Args:
        choices: the option of each group.
        config: of the run, plain values.
    """
    hparams: dict[str, Hparam] = {group: str(option) for group, option in choices.items()}
    for group, node in config.items():
        if isinstance(node, Mapping) and group != "monitor":
            hparams |= dict(_leaves(group, node))
    return hparams


def _leaves(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Hparam]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{path}.{key}", value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{path}.{key}", str(list(value))
        elif value is not None and key != "_target_":
            yield f"{path}.{key}", value


def session_start(values: Mapping[str, Hparam]) -> bytes:
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


def experiment(
    columns: Mapping[str, Interval | None], results: Mapping[str, str], first: Collection[str], began: float
) -> bytes:
    """A Summary that describes the tab of all runs.

    Args:
        columns: the settings, with the numbers that they take. There is no list of values, as the tab would
            hide the runs with any other one, those of other experiments among them.
        results: the tags of the scalars that are columns too, each with the heading of its column.
        first: the settings that come first.
        began: the time, in seconds.
    """
    from tensorboard.plugins.hparams.api_pb2 import Experiment, HParamInfo, MetricInfo, MetricName

    described = Experiment(time_created_secs=began)
    for name, interval in columns.items():
        info = HParamInfo(name=name, differs=name in first)
        if interval:
            info.type = "DATA_TYPE_FLOAT64"
            info.domain_interval.min_value, info.domain_interval.max_value = interval
        described.hparam_infos.append(info)
    for tag, heading in results.items():
        described.metric_infos.append(MetricInfo(name=MetricName(tag=tag), display_name=heading))
    return _summary("experiment", described)


def _summary(field: str, message: Any) -> bytes:
    """A Summary of the plugin with one field of its data."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = HParamsPluginData(version=0, **{field: message}).SerializeToString(deterministic=True)
    return plugin_summary(f"_hparams_/{field}", "hparams", text_tensor(b""), content)


def _finite_or_text(value: Any) -> Any:
    """NaN and infinity as text: JSON has neither, so the tab would leave them out or fail."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
