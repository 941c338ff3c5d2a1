"""Hydra's edge: the command line, its help, and what a config may make Hydra do."""

from sweepwise.cli.compose import BASE, chosen, composed, recorded, refusal, request_of
from sweepwise.cli.main import execute, is_ours, main, script, train_request

__all__ = [
    "BASE",
    "chosen",
    "composed",
    "execute",
    "is_ours",
    "main",
    "recorded",
    "refusal",
    "request_of",
    "script",
    "train_request",
]
