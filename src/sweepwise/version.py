"""The version; a module of its own, so that what is inside the package need not import its face."""

__version__ = "0.1.0"
