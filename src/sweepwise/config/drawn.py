"""How a yaml says what a value is drawn from: `{log: [1e-4, 1e-1]}`, `{choice: [xavier, kaiming]}`.

One word says how, a list between what or among what, so that nothing of it can contradict anything else.
It is read as its equal in Hydra's grammar, which is what a command line has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweepwise.errors import UsageError, did_you_mean, hydra_word

SEARCH = "_search_"  # in the yaml of an option: the sensible ranges of its keys
SHARE = "share"  # whole epochs between two shares of trainer.max_epochs, in percent
KINDS = ("uniform", "log", "int", "log_int", SHARE, "choice", "ordered")
WAYS = (
    "write one of {uniform: [0, 0.5]}, {log: [1e-4, 0.1]}, {int: [1, 9]}, {log_int: [16, 256]}, "
    "{share: [5, 50]}, {choice: [a, b]}, {ordered: [a, b, c]}"
)


def in_grammar(key: str, value: Any) -> str:
    """What a key is drawn from, in Hydra's grammar; texts of it and plain values stay as they are.

    Args:
        key: what it sets, for messages.
        value: of a yaml, plain.

    Raises:
        UsageError: a mapping says something else.

    Example:
        >>> in_grammar("optimizer.lr", {"log": [1e-4, 1e-1]}), in_grammar("init", {"choice": ["lsuv"]})
        ('tag(log,interval(0.0001,0.1))', 'choice(lsuv)')
    """
    if not isinstance(value, Mapping):
        return str(value)
    shown = f"{key}: {dict(value)}: "
    if len(value) != 1:
        raise UsageError([f"{shown}must have one word, which says how its values are drawn; {WAYS}"])
    ((kind, values),) = value.items()
    if kind not in KINDS:
        raise UsageError([f"{shown}unknown word {kind!r}; {did_you_mean(str(kind), KINDS)}"])
    if not isinstance(values, (list, tuple)):
        raise UsageError([f"{shown}{kind} must be followed by a list; {WAYS}"])
    if kind in ("choice", "ordered"):
        if not values:
            raise UsageError([f"{shown}has no options; give at least one"])
        if kind == "choice" and len(values) > 1:
            return ",".join(map(_written, values))
        if any(one is None for one in values):  # which Hydra's choice() does not take
            raise UsageError([f"{shown}null has no place in an order, and no choice alone; {WAYS}"])
        listed = f"choice({','.join(map(_written, values))})"
        return f"tag(ordered,{listed})" if kind == "ordered" else listed
    if len(values) != 2 or not all(_is_number(end) for end in values):
        raise UsageError([f"{shown}{kind} must be followed by two numbers; write {{{kind}: [LOW, HIGH]}}"])
    interval = f"interval({','.join(map(repr, values))})"
    tags = [word for word in ("log", "int", SHARE) if word in kind.split("_")]
    return f"tag({','.join([*tags, interval])})" if tags else interval


def _written(value: Any) -> str:
    """A value of a yaml as Hydra's grammar writes it; a text that is no plain word is quoted."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    return hydra_word(value) if isinstance(value, str) else repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
