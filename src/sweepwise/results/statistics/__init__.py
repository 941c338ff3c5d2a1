"""What values say of settings: intervals, differences, verdicts, effects; pure functions."""
