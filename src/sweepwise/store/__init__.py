"""A run's folder: what it is, whose it is, and what became of the run."""
