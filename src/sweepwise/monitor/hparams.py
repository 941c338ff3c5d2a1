# mypy: disable-error-code="import-untyped"
"""What TensorBoard's HParams tab reads."""

import math
from collections.abc import Sequence
from typing import Any

from sweepwise.monitor.tfrecord import plugin_summary, texts


def hparams_summary(field: str, message: Any) -> bytes:
    """A summary of the HParams plugin with one field of its data set."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = HParamsPluginData(version=0, **{field: message}).SerializeToString(deterministic=True)
    return plugin_summary(f"_hparams_/{field}", "hparams", texts(b""), content)


def hparam_info(key: str, values: Sequence[bool | int | float | str] | None) -> Any:
    """What the HParams tab shows of a setting: its name, its type, and the values that it may have."""
    from tensorboard.plugins.hparams.api_pb2 import HParamInfo

    domain = {finite_or_text(value) for value in values or ()}
    types = {float if type(value) is int else type(value) for value in domain}
    if len(types) != 1:
        return HParamInfo(name=key)
    kind = {bool: "DATA_TYPE_BOOL", float: "DATA_TYPE_FLOAT64", str: "DATA_TYPE_STRING"}[types.pop()]
    info = HParamInfo(name=key, type=kind)
    info.domain_discrete.extend(sorted(domain))
    return info


def finite_or_text(value: Any) -> Any:
    """NaN and infinity as text: they have no JSON, so the tab would leave them out or fail."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
