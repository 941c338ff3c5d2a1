"""How a network starts, and what would help."""
