"""How long our searches take to the validation loss that a plain script with Optuna reaches.

    pip install -e ".[optuna]"
    python benchmarks/optuna_loop.py                       about 10 minutes of two quiet cores
    python benchmarks/optuna_loop.py --rounds 2 --contenders optuna,halving

The network of w1 with dropout on digits, batch 64, at most 100 epochs, early stopping after 10 without
improvement, the same training and validation part for all; rate, weight decay and dropout are searched.

    optuna       optuna_user.py: 64 trials of TPE and HyperbandPruner around a plain loop with torch's fused
                 Adam and a journal file; it reads arrays that are ready, and writes nothing but its journal
    optuna_two   the same by two processes that share the journal, 32 trials each
    random       train.py -m hydra/sweeper=random, 64 points, all of them handed over at once
    tpe          hydra/sweeper=optuna, 64 points in batches of 16, all trained to their end
    hyperband    the same in batches of 32 with Optuna's HyperbandPruner
    halving      hydra/sweeper=halving of 64 settings on a grid

Ours write no event files, but a folder with record and weights for each run. Whole commands are timed, in
turn, with another seed each round. 'reached' is in how many rounds a run, ended or paused, was as good as
the best trial of optuna in that round; the last ratio is of the time until then (of optuna itself, until that
trial had ended). Ratios are to the whole time of optuna in the round; medians (least - greatest). On a busy
machine times say little: there read the ratio of CPU time. Ours compute on two cores at once, optuna on one.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, time
from typing import NamedTuple

from interleave import one_thread

HERE = Path(__file__).resolve().parent
TRIALS, EPOCHS = 64, 100
REFERENCE = "optuna"
HEADS = ("best loss", "seconds", "their ratio", "ratio of CPU time", "reached", "ratio until then")
TRAIN = [sys.executable, "train.py", "-m"]
TRAINING = ["data=digits", "regularizer=dropout", f"trainer.max_epochs={EPOCHS}"]
QUIET = ["monitor=none", "checkpoint=end", "report=false", "mean_runs=false", "progress=false"]
SPACE = [
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "optimizer.weight_decay=tag(log,interval(1e-6,1e-2))",
    "regularizer.dropout.p=interval(0,0.5)",
]
GRID = [
    "optimizer.lr=0.0003,0.0006,0.001,0.002,0.004,0.008,0.016,0.032",
    "optimizer.weight_decay=1e-5,1e-4,3e-4,1e-3",
    "regularizer.dropout.p=0.1,0.3",
]
TPE = ["hydra/sweeper=optuna", f"hydra.sweeper.trials={TRIALS}", *SPACE]
OURS = {
    "random": ["hydra/sweeper=random", f"hydra.sweeper.samples={TRIALS}", *SPACE],
    "tpe": [*TPE, "hydra.sweeper.at_once=16"],
    "hyperband": [
        *TPE,
        "hydra.sweeper.at_once=32",
        "hydra.sweeper.pruner=hyperband",
        "hydra.sweeper.min_epochs=3",
    ],
    "halving": ["hydra/sweeper=halving", "hydra.sweeper.min_epochs=3", *GRID],
}
PROCESSES = {REFERENCE: 1, "optuna_two": 2}


class Search(NamedTuple):
    """What a command has come to.

    Attributes:
        seconds: of the whole command.
        cpu: seconds that its processes have computed.
        values: of its trials, in the order in which they ended: seconds after the start, and validation loss.
    """

    seconds: float
    cpu: float
    values: list[tuple[float, float]]

    @property
    def best(self) -> float:
        """The lowest loss."""
        return min(value for _, value in self.values)

    def reached(self, target: float) -> float | None:
        """Seconds until a trial was as good as a target; None if none was."""
        return next((at for at, value in self.values if value <= target), None)


class Clock:
    """Measures from its making on: seconds, and those that processes which have ended since then computed."""

    def __init__(self) -> None:
        self._began, self._before = perf_counter(), self._computed()

    def __call__(self) -> tuple[float, float]:
        """Both."""
        return perf_counter() - self._began, self._computed() - self._before

    def _computed(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


def data(path: Path) -> None:
    """Writes the parts of digits that ours trains on, for the plain script."""
    import numpy as np

    from sweepwise import split
    from sweepwise.data.digits import digits

    parts = split(digits(), batch_size=64)
    x, y, held_x, held_y = parts.train.x, parts.train.y, parts.validation.x, parts.validation.y
    np.savez(path, x=x, y=y, held_x=held_x, held_y=held_y)


def optuna(arrays: Path, folder: Path, seed: int, processes: int) -> Search:
    """Times the plain script, or several that share the trials."""
    journal = folder / "journal.log"
    command = [sys.executable, "optuna_user.py", str(arrays), str(journal)]
    numbers = [[seed + 1000 * number, TRIALS // processes, EPOCHS] for number in range(processes)]
    clock, since = Clock(), time()
    each = [
        subprocess.Popen([*command, *map(str, own)], cwd=HERE, stdout=subprocess.DEVNULL) for own in numbers
    ]
    for process in each:
        process.wait()
    if any(process.returncode for process in each):
        raise SystemExit("optuna_user.py has failed")
    return Search(*clock(), _of_journal(journal, since))


def _of_journal(journal: Path, since: float) -> list[tuple[float, float]]:
    """The trials that were not pruned: seconds until they ended, and their values."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(journal))))
    values = []
    for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        assert trial.datetime_complete is not None and trial.value is not None
        values.append((trial.datetime_complete.timestamp() - since, trial.value))
    return sorted(values)


def ours(name: str, folder: Path, seed: int) -> Search:
    """Times one of our searches."""
    command = [*TRAIN, *TRAINING, *QUIET, *OURS[name], f"output_dir={folder}", f"name={name}"]
    clock, since = Clock(), time()
    subprocess.run(
        [*command, f"hydra.sweeper.seed={seed}", f"seed.value={seed}"],
        cwd=HERE.parent,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return Search(*clock(), _of_runs(folder / name, since))


def _of_runs(experiment: Path, since: float) -> list[tuple[float, float]]:
    """The runs that have a value: seconds until their record was written last, and their best values."""
    from sweepwise.results import run_folder
    from sweepwise.store import record
    from sweepwise.store.folders import RECORD

    values = []
    for folder in run_folder.folders(experiment):
        value = record.read(folder)["best"]["value"]
        if value is not None:
            values.append(((folder / RECORD).stat().st_mtime - since, value))
    return sorted(values)


def measure(name: str, arrays: Path, seed: int) -> Search:
    """One search in a folder of its own, which is removed."""
    folder = Path(tempfile.mkdtemp())
    try:
        if name in PROCESSES:
            return optuna(arrays, folder, seed, PROCESSES[name])
        return ours(name, folder, seed)
    finally:
        shutil.rmtree(folder)


def table(rounds: Sequence[Mapping[str, Search]]) -> str:
    """A line for each contender, medians over the rounds with the least and the greatest."""
    lines = [f"{'':12}" + "".join(f"{head:>21}" for head in HEADS)]
    for name in rounds[0]:
        pairs = [(one[name], one[REFERENCE]) for one in rounds]
        reached = [(mine.reached(theirs.best), theirs.seconds) for mine, theirs in pairs]
        ratios = [at / whole for at, whole in reached if at is not None]
        cells = [
            _spread([mine.best for mine, _ in pairs], 4),
            _spread([mine.seconds for mine, _ in pairs], 1),
            _spread([mine.seconds / theirs.seconds for mine, theirs in pairs], 2),
            _spread([mine.cpu / theirs.cpu for mine, theirs in pairs], 2),
            f"{len(ratios)} of {len(pairs)}",
            _spread(ratios, 2),
        ]
        lines.append(f"{name:12}" + "".join(f"{cell:>21}" for cell in cells))
    return "\n".join(lines)


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", default=",".join([*PROCESSES, *OURS]))
    asked = parser.parse_args()
    names = list(dict.fromkeys([REFERENCE, *asked.contenders.split(",")]))
    if unknown := {*names} - {*PROCESSES} - {*OURS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    one_thread(None)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "digits.npz"
        data(arrays)
        for seed in range(1, asked.rounds + 1):
            rounds.append({name: measure(name, arrays, seed) for name in names})
            print(f"round {seed} of {asked.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
            print(table(rounds), file=sys.stderr, flush=True)
    print(table(rounds))


if __name__ == "__main__":
    main()
