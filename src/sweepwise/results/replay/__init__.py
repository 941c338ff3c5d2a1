"""What other rules of early stopping, and successive halving, would have given: replayed on logged curves."""
