"""Early stopping: rules that take a metric after each epoch and may end the training."""

from sweepwise.early_stop.rule import EarlyStop
from sweepwise.improvement import Best, Mode, sign

__all__ = ["Best", "EarlyStop", "Mode", "sign"]
