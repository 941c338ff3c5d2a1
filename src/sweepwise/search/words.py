"""How settings and points are named in a line of a search."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 3  # that a line names


def setting_named(overrides: Sequence[str]) -> str:
    """How a line of a search names a setting.

    Example:
        >>> setting_named(["lr=1", "init=xavier"]), setting_named([])
        ('lr=1,init=xavier', 'the default')
    """
    return ",".join(overrides) or "the default"


def listed(names: Sequence[str]) -> str:
    """Names in words, the first of them and how many more there are.

    Example:
        >>> listed(["lr=1", "lr=2"]), listed(["lr=1", "lr=2", "lr=3", "lr=4", "lr=5"])
        ('lr=1 and lr=2', 'lr=1 and lr=2 and lr=3 and 2 more')
    """
    more = len(names) - NAMED
    return " and ".join([*names[:NAMED], *([f"{more} more"] if more > 0 else [])])


def counted(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "setting"), counted(2, "setting")
        ('1 setting', '2 settings')
    """
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def numbered(first: int, last: int) -> str:
    """Points in words.

    Example:
        >>> numbered(3, 3), numbered(1, 8)
        ('point 3', 'points 1 to 8')
    """
    return f"point {first}" if first == last else f"points {first} to {last}"
