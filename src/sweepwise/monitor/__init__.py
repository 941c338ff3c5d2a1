"""What is watched in a run, and how it is written: metrics.jsonl and TensorBoard's event file.

The names are imported when they are first used: what only writes event files loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweepwise.monitor.monitor import START, Monitor

__all__ = ["START", "Monitor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sweepwise.monitor' has no attribute {name!r}")
    from sweepwise.monitor import monitor

    return getattr(monitor, name)
