"""The files of an account in the experiment's folder; what runs say of the test part is read here, once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sweepwise.search.guided import account_markdown, account_page
from sweepwise.search.guided.account import Account
from sweepwise.search.guided.course import run_of
from sweepwise.search.measured import Overrides
from sweepwise.store import record
from sweepwise.store.record import TEST
from sweepwise.store.request import Request
from sweepwise.store.strict_json import jsonable
from sweepwise.system.atomic import write_atomic

JSON, MARKDOWN, PAGE = "guided.json", "guided.md", "guided.html"


def whole(account: Account, base: Sequence[str], requests: Mapping[Overrides, Request]) -> Account:
    """An account with what only its runs' folders say: the test part of the result and of the default.

    Args:
        account: of the search.
        base: overrides that a person has given.
        requests: the runs of the search.

    Raises:
        DamagedRecord: a run's record cannot be read.
    """
    test: dict[str, dict[str, dict[int, float]]] = {}
    for name, setting in {"chosen": account.found, "default": ()}.items():
        for seed in account.fresh:
            request = requests.get(run_of((), setting, seed))
            for tag, value in _tested(request).items():
                test.setdefault(name, {}).setdefault(tag, {})[seed] = value
    return replace(account, base=tuple(base), test=test)


def _tested(request: Request | None) -> dict[str, float]:
    """The metrics of the test part of a run, with the weights it has kept."""
    known = record.read(request.folder) if request else {}
    metrics = (known.get("best") or {}).get("metrics") or {}
    return {
        tag: float(value)
        for tag, value in metrics.items()
        if tag.startswith(TEST) and isinstance(value, (int, float)) and math.isfinite(value)
    }


def write(account: Account, home: Path, saved: str) -> Iterable[Path]:
    """Writes an account as values, as Markdown and as a page into an experiment's folder; returns the paths.

    Args:
        account: of the search.
        home: folder.
        saved: the experiment that its result was saved as; '' if it was not.

    Raises:
        OSError: it cannot be written.
    """
    contents = {
        JSON: json.dumps(jsonable(asdict(account)), indent=1) + "\n",
        MARKDOWN: account_markdown.markdown(account, saved),
        PAGE: account_page.html(account, saved),
    }
    for name, text in contents.items():
        write_atomic(home / name, text.encode())
    return [home / name for name in contents]
