"""Hydra's edge: the command line, its help, and what a config may make Hydra do."""

from sweepwise.cli.compose import chosen, composed, recorded, refusal, request_of
from sweepwise.cli.main import execute, is_ours, main, script

__all__ = ["chosen", "composed", "execute", "is_ours", "main", "recorded", "refusal", "request_of", "script"]
