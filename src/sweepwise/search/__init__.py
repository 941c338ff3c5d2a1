"""Searches: which runs are worth training, decided from those known; loads neither torch nor Hydra."""
