"""Confirms the best of a sweep on new seeds, and only then looks at the test part, once.

  python scripts/confirm.py outputs/main                 5 new seeds
  python scripts/confirm.py outputs/main seeds=10 finalists=3

The best of many settings looks better than it is, since it was chosen by the
values that it is shown with. So finalists (the settings that the sweep cannot
tell from its best, at most finalists=3) and the default are trained on seeds
that no run of the sweep has. The best of them by the sweep's own metric is
chosen; of that one and of the default the test part is shown. Finalists and
seeds are kept in FOLDER/.sweep/confirmation.json: the same command goes on with
them, and takes no others. The runs are an experiment of their own,
FOLDER-confirmed; they can be trained elsewhere (print=true prints the commands,
such as for a cluster).

Exit codes: 0 confirmed, 1 a run has failed, 2 bad usage.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path

from sweepwise import cli
from sweepwise.errors import FAILED, UsageError
from sweepwise.results import answer, confirmation, loading, run_folder, words
from sweepwise.results.confirmation import DEFAULT, SUFFIX, Plan
from sweepwise.results.further_runs import PLAN
from sweepwise.results.table import Row
from sweepwise.store.folders import SWEEP
from sweepwise.store.request import Request
from sweepwise.sweep.local.launch import LocalSettings, train
from sweepwise.tools import scripting

CONF = Path(__file__).resolve().parent.parent / "conf"


def main(arguments: list[str]) -> int:
    """Trains what is missing, and prints what the new seeds say."""
    home = scripting.sweep(arguments[:1])
    own, others = scripting.settings(arguments[1:], seeds="5", finalists="3", print="false")
    if others:
        raise UsageError([f"{other}: must be seeds=, finalists= or print=" for other in others])
    seeds, finalists = _at_least(2, "seeds", own["seeds"]), _at_least(1, "finalists", own["finalists"])
    if own["print"] not in ("true", "false"):
        raise UsageError([f"print={own['print']}: must be true or false"])
    what = confirmation.stored(home)
    if (
        what is not None
        and "seeds" in {text.partition("=")[0] for text in arguments}
        and seeds != len(what.seeds)
    ):
        path = home / SWEEP / PLAN
        rule = f"must be {len(what.seeds)}, as was planned in {path}; remove that file to plan anew"
        raise UsageError([f"seeds={seeds}: {rule}"])
    if what is None:
        said = answer.answer(loading.load(home))
        if not any(ranked.n for ranked in said.ranking):
            raise UsageError([f"{home}: no run has ended, so there is nothing to confirm"])
        if not said.replicated:
            raise UsageError([f"{home}: each setting has one run; add seeds before anything is confirmed"])
        what = confirmation.plan(said, seeds, finalists)
    requests = _requests(home, what)
    what = _each_once(what, requests)
    requests = {key: request for key, request in requests.items() if key[0] in what.finalists}
    confirmation.store(home, what)
    rows = _rows(requests, what.metric)
    missing = list(confirmation.missing(what, rows))
    if own["print"] == "true":
        for name in dict.fromkeys(name for name, _ in missing):
            numbers = ",".join(str(seed) for other, seed in missing if other == name)
            elsewhere = [*requests[name, what.seeds[0]].overrides[:-1], f"seed.value={numbers}"]
            print(shlex.join(["python", "train.py", "-m", *elsewhere]))
        return 0
    if missing:
        for _ in train([requests[key] for key in missing], LocalSettings(), answered=False):
            pass
        rows = _rows(requests, what.metric)
    sign = loading.load(home, metric=what.metric).sign
    print(words.text(confirmation.confirmed(confirmation.confirm(what, rows, sign), what)))
    return FAILED if list(confirmation.missing(what, rows)) else 0


def _at_least(least: int, key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UsageError([f"{key}={text}: must be a whole number, {least} or more"])
    return int(text)


def _requests(home: Path, what: Plan) -> dict[tuple[str, int], Request]:
    """The runs of a plan, composed."""
    place = [f"output_dir={home.parent}", f"name={home.name}{SUFFIX}"]
    requests = {}
    for name in what.finalists:
        for seed in what.seeds:
            *rest, last = what.overrides(name, seed)
            plain = [text for text in rest if text.partition("=")[0] not in ("output_dir", "name")]
            requests[name, seed] = cli.composed([*plain, *place, last], CONF)
    return requests


def _each_once(what: Plan, requests: Mapping[tuple[str, int], Request]) -> Plan:
    """The plan without the finalist that is the default under another name."""
    first = what.seeds[0]
    same = [
        name
        for name in what.finalists
        if name != DEFAULT
        and DEFAULT in what.finalists
        and requests[name, first].id == requests[DEFAULT, first].id
    ]
    return Plan(
        {name: texts for name, texts in what.finalists.items() if name not in same}, what.seeds, what.metric
    )


def _rows(requests: Mapping[tuple[str, int], Request], metric: str) -> dict[tuple[str, int], Row]:
    """The runs that are there, by finalist and seed."""
    homes = {request.home for request in requests.values() if any(run_folder.folders(request.home))}
    if not homes:
        return {}
    by_id = {row.run.id: row for row in loading.load(*homes, metric=metric).rows}
    return {key: by_id[request.id] for key, request in requests.items() if request.id in by_id}


if __name__ == "__main__":
    cli.script(main, __doc__)
