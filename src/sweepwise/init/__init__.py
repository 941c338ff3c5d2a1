"""Weight initialisation, by the type of each layer."""

from sweepwise.init.initialize import initialize_

__all__ = ["initialize_"]
