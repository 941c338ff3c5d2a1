"""Early stopping: rules that take a metric after each epoch and may end the training."""

from sweepwise.early_stop.rule import Best, EarlyStop, Mode, sign

__all__ = ["Best", "EarlyStop", "Mode", "sign"]
