"""Examines a network before its training, and advises what would help."""
