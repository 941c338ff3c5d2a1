"""Tests that a run resumes to the bit: kills it again and again, and compares.

  python scripts/verify.py RUN                     RUN is the folder of a run
  python scripts/verify.py RUN kills=100 seed=1
  python scripts/verify.py RUN max_steps=200       its first steps only: for a long run

The training is that of RUN/config.yaml, in a folder of its own that is removed
at the end; RUN is only read. First the run is trained without interruption, as
a reference. Then it is trained again, and killed and started again until it has
ended; more trainings follow until there were kills=10 deaths: at random times,
and before, in the middle of or after single operations on the disk; by SIGKILL,
and by signals that a training answers. every=N makes a checkpoint every N steps;
the default is a tenth of the training.

Compared to the bit are: weights, best weights, all state of optimizer,
schedule and generators, metrics.jsonl, every record of the event files, the
results. A model fails here if it keeps state that no checkpoint contains.

Exit codes: 0 identical, 1 not (the folder is kept then), 2 bad usage.
"""

import itertools
import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.store import record
from sweepwise.tools import scripting

OWN = {"kills": "10", "seed": "0", "every": "0", "max_steps": "0"}
TOGETHER = 8  # deaths of one training, at most


def main(arguments: list[str]) -> int:
    """Trains, kills and compares; prints a line for each training."""
    folder, own = scripting.run_and_settings(arguments, **OWN)
    chosen = {key: number(key, value) for key, value in own.items()}
    request = cli.recorded(folder)
    limits = {"max_steps": least(request.config["trainer"]["max_steps"], chosen["max_steps"])}
    every = chosen["every"] or max(1, (least(length(folder), limits["max_steps"]) or 100) // 10)

    from sweepwise.run import train
    from sweepwise.verify import crash_recovery

    scratch = Path(tempfile.mkdtemp(prefix="sweepwise-verify-"))
    often = {"minutes": 0, "steps": every, "epochs": 0}
    request = crash_recovery.in_folder(request, scratch, trainer=limits, checkpoint=often)
    reference = crash_recovery.train_reference(train, request, made(scratch / "reference"))
    print(
        f"reference     {reference.seconds:.1f} s, {reference.operations} operations on the disk, a "
        f"checkpoint every {every} steps",
        flush=True,
    )
    coming = crash_recovery.deaths(random.Random(chosen["seed"]), reference)
    kills, starts, differing = 0, 0, 0
    for training in itertools.count(1):
        here = made(scratch / str(training))
        some = itertools.islice(coming, min(TOGETHER, chosen["kills"] - kills))
        survivor = crash_recovery.survive(train, request, here, reference, some)
        kills, starts = kills + len(survivor.deaths), starts + survivor.starts
        differing += bool(survivor.differences)
        result = "differs" if survivor.differences else "identical"
        killed_by = "; ".join(map(str, survivor.deaths)) or "no death"
        print(f"training {training:<5}{result}: {killed_by}", flush=True)
        for difference in survivor.differences:
            print(f"              {difference}")
        if not survivor.differences:
            shutil.rmtree(here)
        if kills >= chosen["kills"]:
            break
    print(f"in total      {training} trainings, {kills} kills, {starts} starts")
    if differing:
        print(f"differing     {differing} of them; all folders are kept in {scratch}")
        return 1
    shutil.rmtree(scratch)
    print("identical to the bit")
    return 0


def number(key: str, text: str) -> int:
    """Reads a whole number >= 0 from the command line; for kills at least 1."""
    low = 1 if key == "kills" else 0
    if not text.isdecimal() or int(text) < low:
        raise UsageError([f"{key}={text}: must be a whole number >= {low}"])
    return int(text)


def least(one: int | None, other: int | None) -> int | None:
    """The smaller of two limits; None and 0 mean that there is no limit."""
    return min((limit for limit in (one, other) if limit), default=None)


def length(folder: Path) -> int:
    """How many steps the run has taken, if it has ended; else 0."""
    stopped: Mapping[str, Any] = record.read(folder).get("stopped", {})
    return int(stopped.get("step", -1)) + 1


def made(folder: Path) -> Path:
    """Makes a folder and returns it."""
    folder.mkdir()
    return folder


if __name__ == "__main__":
    cli.script(main, __doc__)
