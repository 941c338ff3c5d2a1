"""How many epochs the runs of a search have, where it is `trainer.max_steps` that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweepwise.store.request import Request

READ = ("data", "trainer")  # groups of which the length follows


def lengths(requests: Sequence[Request]) -> list[int | None]:
    """The epochs of each run whose training ends after some steps, for which their data are loaded.

    Returns:
        None for a run without `trainer.max_steps`, and for one that cannot be built, which it says itself.
    """
    from sweepwise.errors import Failure
    from sweepwise.sweep.local.fork import run_in_child

    limited = [one for one in requests if one.config["trainer"].get("max_steps") is not None]
    kinds = {_kind(one): one.config for one in limited}
    if not kinds:
        return [None] * len(requests)
    try:  # in another process, which imports torch and loads data
        found = dict(zip(kinds, run_in_child(partial(_epochs, list(kinds.values()))), strict=True))
    except Failure:
        found = {}
    return [found.get(_kind(one)) for one in requests]


def _kind(request: Request) -> str:
    return json.dumps([request.config[group] for group in READ], sort_keys=True, default=str)


def _epochs(configs: Sequence[Mapping[str, Any]]) -> list[int | None]:
    from sweepwise.run import load

    with load.without_searches():
        from sweepwise.run.from_config import epochs
    found: list[int | None] = []
    for config in configs:
        try:
            found.append(epochs(config))
        except Exception:  # the run tells it, when it is its turn
            found.append(None)
    return found
