"""Launchers and sweepers of sweepwise, where Hydra looks for them."""
