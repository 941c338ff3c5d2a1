"""Parts of one's own for sweepwise."""
