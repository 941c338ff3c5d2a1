"""Rules that end a training: value after an epoch, and why to stop."""

from sweepwise.early_stop.rule import Best, EarlyStop, Mode, sign

__all__ = ["Best", "EarlyStop", "Mode", "sign"]
