"""Learning rate schedules: a table of the rate of every step."""

from sweepwise.scheduler.schedule import HORIZON, Schedule, warmup_steps

__all__ = ["HORIZON", "Schedule", "warmup_steps"]
