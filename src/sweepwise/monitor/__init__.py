"""What is watched in a run, and how it is written: metrics.jsonl and TensorBoard's event file."""

from sweepwise.monitor.monitor import START, Monitor

__all__ = ["START", "Monitor"]
