"""Learning-rate schedules: the rate of every step, as a table."""

from sweepwise.scheduler.schedule import HORIZON, Schedule, warmup_steps

__all__ = ["HORIZON", "Schedule", "warmup_steps"]
