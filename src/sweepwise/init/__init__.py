"""Weight initialisation by the type of the layer."""

from sweepwise.init.initialize import initialize_

__all__ = ["initialize_"]
