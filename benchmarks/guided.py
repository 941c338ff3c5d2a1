"""A guided search beside no search, random search and TPE with hyperband, on ten small real tasks.

    python benchmarks/guided.py FOLDER workers=2       some hours of two cores; nothing is downloaded
    python benchmarks/guided.py FOLDER tasks=digits,wine methods=default,random repetitions=1 budget=40

What is in FOLDER is not run again: the same command goes on, and prints the tables of all that is there. Each
cell (task, method, repetition) is FOLDER/TASK/REPETITION/METHOD.json; all of them are FOLDER/raw.json, the
tables (guided_tables.py says what they mean) FOLDER/tables.md. fashion needs Debian's dataset-fashion-mnist.
benchmarks/guided has all of them, their seconds on a busy machine: `cp -r benchmarks/guided FOLDER`, and they
are not run again. Where the search has changed since, remove guided.json.

Every search may train as many epochs as `budget` trainings of the task's length, 60 unless one says so; a
FOLDER is for one budget. What stopping or pruning saves buys random search and TPE more trials; they choose
among those that fit, in the order in which they began. All see the validation part alone, and choose from the
same inits, schedules, regularizers and learning rates. A repetition has a seed of its own for the search and
for the split of the data, the same for all methods. Each choice is then trained with FRESH seeds, which no
search has seen, and of these the test part is read.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from guided_tables import tables

from sweepwise.results import run_folder
from sweepwise.search import log
from sweepwise.store import record
from sweepwise.store.folders import SEARCH, SWEEP

ROOT = Path(__file__).resolve().parent.parent
FRESH = range(2000, 2008)  # seeds; a guided search has fresh ones of its own, from 1000 on
AT_ONCE = 8  # of TPE
QUIET = ["monitor=none", "checkpoint=end", "report=false", "mean_runs=false", "progress=false"]
ONE_PROCESS = "hydra.launcher.max_parallel=1"
CHOICES = ["init=default,xavier,kaiming,orthogonal,lsuv", "scheduler=constant,cosine,step,plateau"]
RANGES = ["optimizer.lr", "scheduler.warmup", "early_stop.patience"]
RANGES += ["regularizer.l2.coefficient", "regularizer.dropout.p"]
SMOOTHING = "regularizer.label_smoothing.smoothing"  # of classifications
OPTIONS = {"tasks", "methods", "repetitions", "workers", "budget"}
WHOLE = ("finished", "stopped early")  # statuses of runs that a search may choose


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        words: overrides, separated by spaces; '{folder}' is where the tables lie.
        epochs: of a whole training.
        classes: whether it is a classification.
    """

    words: str
    epochs: int
    classes: bool = True


TASKS = {
    "digits": Task("data=digits", 60),
    "mnist1d_mlp": Task("data=mnist1d data.examples=2000", 60),
    "mnist1d_cnn": Task("data=mnist1d data.examples=2000 model=cnn1d", 25),
    "mnist1d_gru": Task("data=mnist1d data.examples=1000 data.batch_size=32 model=gru model.width=32", 15),
    "fashion": Task("data=fashion_mnist data.examples=5000", 20),
    "wine": Task("data=table data.path={folder}/wine.csv data.batch_size=16", 100),
    "diabetes": Task("data=table data.path={folder}/diabetes.csv data.task=regression", 100, classes=False),
    "digits_noisy": Task("data=digits data.label_noise=0.2", 60),
    "mnist1d_noisy": Task("data=mnist1d data.examples=2000 data.label_noise=0.2", 60),
    "deep_tanh": Task("data=digits model=deep_tanh", 30),
}


@dataclass(frozen=True)
class Cell:
    """One task in one repetition.

    Attributes:
        name: of the task.
        repetition: seed of searches and split of the data.
        folder: of the benchmark.
        budget: of a search, in trainings.
    """

    name: str
    repetition: int
    folder: Path
    budget: int

    @property
    def home(self) -> Path:
        """Where all of its experiments lie."""
        return self.folder / self.name / str(self.repetition)

    @property
    def epochs(self) -> int:
        """That a search may train."""
        return self.budget * TASKS[self.name].epochs

    @property
    def choices(self) -> list[str]:
        """What every search chooses from."""
        smoothing = ",label_smoothing" if TASKS[self.name].classes else ""
        return [*CHOICES, f"regularizer=none,l2,dropout{smoothing}"]

    @property
    def ranges(self) -> str:
        """The numbers that are drawn."""
        return f"hydra.sweeper.search=[{','.join([*RANGES, *[SMOOTHING] * TASKS[self.name].classes])}]"

    def run(self, name: str, words: Sequence[str]) -> float:
        """Runs a sweep to its end, whose exit code says only whether some runs failed; seconds it took."""
        task = TASKS[self.name]
        own = [*task.words.format(folder=self.folder).split(), f"trainer.max_epochs={task.epochs}"]
        own += [f"output_dir={self.home}", f"name={name}", f"data.split_seed={self.repetition}"]
        own += [*QUIET, ONE_PROCESS]
        self.home.mkdir(parents=True, exist_ok=True)
        began = perf_counter()
        with (self.home / f"{name}.log").open("a") as file:
            command = [sys.executable, "train.py", "-m", *own, *words]
            subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
        return perf_counter() - began


@dataclass(frozen=True)
class Trained:
    """A run as its record tells it.

    Attributes:
        overrides: of its command.
        status: how it ended.
        value: of the validation metric, with the weights it keeps; inf if it has none.
        epochs: that it trained.
        steps: likewise.
        test: metrics of the test part, with the same weights.
    """

    overrides: frozenset[str]
    status: str
    value: float
    epochs: int
    steps: int
    test: Mapping[str, float]


def trained(experiment: Path) -> list[Trained]:
    """The runs of an experiment."""
    return [_trained(record.read(folder)) for folder in run_folder.folders(experiment)]


def _trained(known: Mapping[str, Any]) -> Trained:
    value = (known.get("best") or {}).get("value")
    stopped = known.get("stopped") or {"epoch": -1, "step": -1}
    test = {tag: number for tag, number in record.best_metrics(known).items() if tag.startswith(record.TEST)}
    return Trained(
        frozenset(known["overrides"]),
        known["status"],
        math.inf if value is None else value,
        stopped["epoch"] + 1,
        stopped["step"] + 1,
        {tag: math.inf if number is None else number for tag, number in test.items()},
    )


def default(cell: Cell) -> dict[str, Any]:
    """No search."""
    return {"found": [], "runs": 0, "epochs": 0, "steps": 0, "seconds": 0.0}


def drawn(cell: Cell, name: str, words: Sequence[str], count: str, at_once: int) -> dict[str, Any]:
    """A search that draws points, until their epochs are spent.

    Args:
        cell: task and repetition.
        name: of the experiment.
        words: overrides of the search.
        count: the key that says how many points there are.
        at_once: points that are decided together.
    """
    space = [*cell.choices, cell.ranges, f"hydra.sweeper.seed={cell.repetition}"]
    points, seconds, before = cell.budget, 0.0, 0
    while True:
        points = -(-points // at_once) * at_once
        seconds += cell.run(name, [*words, *space, f"{count}={points}"])
        runs = in_order(cell.home / name)
        used = sum(run.epochs for run, _ in runs)
        if used >= cell.epochs or len(runs) == before:
            break
        before = len(runs)
        points += math.ceil((cell.epochs - used) * before / used)
    spent = np.cumsum([run.epochs for run, _ in runs])
    kept = [pair for pair, epochs in zip(runs, spent, strict=True) if epochs <= cell.epochs]
    _, found = min((pair for pair in kept if pair[0].status in WHOLE), key=lambda pair: pair[0].value)
    return {"found": found, **cost([run for run, _ in kept]), "seconds": seconds}


def in_order(experiment: Path) -> list[tuple[Trained, list[str]]]:
    """The runs of a search, each with its point, in the order in which they began; none that was refused."""
    lines = log.read(experiment / SWEEP / SEARCH)
    points = dict.fromkeys(tuple(line["point"]) for line in lines if line["what"] == "begin")
    runs = trained(experiment)
    return [(run, list(point)) for point in points for run in runs if run.overrides.issuperset(point)]


def cost(runs: Sequence[Trained]) -> dict[str, int]:
    """What runs took."""
    total = {name: sum(getattr(run, name) for run in runs) for name in ("epochs", "steps")}
    return {"runs": len(runs), **total}


def guided(cell: Cell) -> dict[str, Any]:
    """The stages of a guided search, which keeps to the budget by itself."""
    words = ["hydra/sweeper=guided", "hydra.sweeper.save=null", f"hydra.sweeper.epochs={cell.epochs}"]
    seconds = cell.run("guided", [*words, *cell.choices])
    told = json.loads((cell.home / "guided" / "guided.json").read_text())
    return {"found": told["found"], **cost(trained(cell.home / "guided")), "seconds": seconds}


def random(cell: Cell) -> dict[str, Any]:
    """Random search; trainings end by early stopping alone."""
    return drawn(cell, "random", ["hydra/sweeper=random"], "hydra.sweeper.samples", 1)


def tpe(cell: Cell) -> dict[str, Any]:
    """TPE with hyperband, whose rungs are a ninth and a third of a training."""
    words = ["hydra/sweeper=optuna", "hydra.sweeper.sampler=tpe", "hydra.sweeper.pruner=hyperband"]
    words += [f"hydra.sweeper.min_epochs={max(1, TASKS[cell.name].epochs // 9)}"]
    words += [f"hydra.sweeper.at_once={AT_ONCE}"]
    return drawn(cell, "tpe", words, "hydra.sweeper.trials", AT_ONCE)


METHODS: dict[str, Callable[[Cell], dict[str, Any]]] = {
    "default": default,
    "random": random,
    "tpe": tpe,
    "guided": guided,
}


def fresh(cell: Cell, method: str, found: Sequence[str]) -> list[Mapping[str, float]]:
    """Test metrics of a choice, by fresh seed; inf where a run has none, as it failed or diverged."""
    name = f"{method}-fresh"
    cell.run(name, [*found, f"seed.value={','.join(map(str, FRESH))}"])
    runs = trained(cell.home / name)
    by_seed = {seed: run.test for run in runs for seed in FRESH if f"seed.value={seed}" in run.overrides}
    return [by_seed.get(seed) or {"test/loss": math.inf} for seed in FRESH]


def measure(cell: Cell, methods: Sequence[str]) -> None:
    """Fills the cells of a task and repetition that are not there; one that fails is told and left out."""
    for method in methods:
        path = cell.home / f"{method}.json"
        if path.exists():
            continue
        try:
            told = METHODS[method](cell)
            told["test"] = fresh(cell, method, told["found"])
            path.write_text(json.dumps(told, indent=1))
            print(f"{cell.name} {cell.repetition} {method}: {' '.join(told['found'])}", flush=True)
        except Exception as error:
            print(f"{cell.name} {cell.repetition} {method}: failed, {error!r}", flush=True)


def tables_of_data(folder: Path) -> None:
    """Writes the tables that tasks read."""
    from sklearn.datasets import load_diabetes, load_wine

    for name, load in {"wine": load_wine, "diabetes": load_diabetes}.items():
        path = folder / f"{name}.csv"
        if not path.exists():
            load(as_frame=True).frame.to_csv(path, index=False)


def collected(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """All cells that are there: by task, method and repetition."""
    raw: dict[str, dict[str, dict[str, Any]]] = {}
    for task in TASKS:
        for method in METHODS:
            for path in sorted((folder / task).glob(f"*/{method}.json")):
                told = json.loads(path.read_text())
                raw.setdefault(task, {}).setdefault(method, {})[path.parent.name] = told
    return raw


def main(arguments: Sequence[str]) -> None:
    """Fills the cells that are asked for, and prints the tables of all that are there."""
    folder = Path(arguments[0]).resolve()
    asked = dict(argument.split("=", 1) for argument in arguments[1:])
    tasks, methods = (
        asked.get(key, ",".join(of)).split(",") for key, of in (("tasks", TASKS), ("methods", METHODS))
    )
    if unknown := {*tasks} - {*TASKS} | {*methods} - {*METHODS} | {*asked} - OPTIONS:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}")
    folder.mkdir(parents=True, exist_ok=True)
    tables_of_data(folder)
    repetitions = range(int(asked.get("repetitions", 3)))
    budget = int(asked.get("budget", 60))
    cells = [Cell(task, repetition, folder, budget) for repetition in repetitions for task in tasks]
    with ThreadPoolExecutor(int(asked.get("workers", 1))) as pool:
        list(pool.map(partial(measure, methods=methods), cells))
    raw = collected(folder)
    (folder / "raw.json").write_text(json.dumps(raw, indent=1))
    found = tables(raw)
    (folder / "tables.md").write_text(f"{found}\n")
    print(found)


if __name__ == "__main__":
    main(sys.argv[1:])
