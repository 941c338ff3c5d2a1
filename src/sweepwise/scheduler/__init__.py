"""Learning rate schedules: a table of the rate of every step."""

from sweepwise.scheduler.horizon import HORIZON, Length, warmup_steps
from sweepwise.scheduler.schedule import Schedule

__all__ = ["HORIZON", "Length", "Schedule", "warmup_steps"]
