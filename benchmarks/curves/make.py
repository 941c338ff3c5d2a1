"""Trains the sweeps whose curves the searches are simulated on, and packs them: benchmarks/curves/TASK.npz.

  python benchmarks/curves/make.py                all tasks, about 20 minutes of one core
  python benchmarks/curves/make.py digits         one of them; runs that have ended are not trained again

Each file holds 30 settings x 16 seeds with whole curves, as `packed` describes them.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sweepwise.results import run_folder
from sweepwise.results.run_folder import RunFolder, shown
from sweepwise.store import record

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SEEDS = 16
SHARED = "early_stop=none monitor=none checkpoint=end report=false mean_runs=false"
# The sweep of each task, and the keys that its settings differ in.
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "digits": (
        "data=digits model.hidden=[64] trainer.max_epochs=30 "
        "optimizer.lr=0.0005,0.001,0.002,0.004,0.008,0.016 scheduler=constant,cosine,linear,exponential,wsd",
        ("optimizer.lr", "scheduler"),
    ),
    "diabetes": (
        "data=diabetes model.hidden=[16] trainer.max_epochs=30 optimizer.lr=0.001,0.002,0.004,0.008,0.016 "
        "regularizer=weight_decay regularizer.weight_decay.coefficient=0,0.01,0.03,0.1,0.3,1",
        ("optimizer.lr", "regularizer.weight_decay.coefficient"),
    ),
    "mnist1d": (
        "data=mnist1d data.examples=2000 model.hidden=[64] optimizer=sgd trainer.max_epochs=24 "
        "optimizer.lr=0.01,0.03,0.1,0.2,0.4 init=default,xavier,kaiming,orthogonal,lecun,truncated_normal",
        ("optimizer.lr", "init"),
    ),
}


def main(tasks: list[str]) -> None:
    """Makes the files of some tasks; none named: of all."""
    for task in tasks or TASKS:
        overrides, keys = TASKS[task]
        home = ROOT / "outputs" / f"curves_{task}"
        seeds = f"seed.value=range({SEEDS})"
        one = "hydra.launcher.max_parallel=1"
        words = [*overrides.split(), *SHARED.split(), one, f"name={home.name}", seeds]
        command = [sys.executable, "train.py", "-m", *words]
        subprocess.run(command, cwd=ROOT, check=True)
        found = [run_folder.read(folder) for folder in run_folder.folders(home)]
        path = HERE / f"{task}.npz"
        np.savez_compressed(path, **packed(found, keys))
        print(f"{path}: {len(found)} runs, {path.stat().st_size / 1000:.0f} kB", flush=True)


def packed(runs: list[RunFolder], keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The curves of runs as arrays.

    Args:
        runs: one for each setting and seed.
        keys: that the settings differ in.

    Returns:
        settings: (settings,) as overrides; seeds: (seeds,); metrics: (2,) tags of `curves`;
        curves: (settings, seeds, epochs, 2) in single precision, nan where a run has none;
        best: (settings, seeds) of the run's metric, nan for one that diverged; test: its test/loss.
    """
    names = {run.folder: _name(run.settings, keys) for run in runs}
    settings = sorted(set(names.values()))
    seeds = sorted({int(str(run.settings["seed.value"])) for run in runs})
    logged = {run.folder: run_folder.epochs(run.folder) for run in runs}
    first = next(iter(logged.values()))[-1]
    metrics = ["val/loss", "val/accuracy" if "val/accuracy" in first else "val/mae"]
    shape = len(settings), len(seeds)
    curves = np.full((*shape, max(map(len, logged.values())), 2), np.nan, np.float32)
    best, test = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for run in runs:
        at = settings.index(names[run.folder]), seeds.index(int(str(run.settings["seed.value"])))
        for epoch, values in enumerate(logged[run.folder]):
            curves[(*at, epoch)] = [values.get(tag, np.nan) for tag in metrics]
        if (value := (run.known.get("best") or {}).get("value")) is not None:
            best[at] = value
        if (value := record.best_metrics(run.known).get("test/loss")) is not None:
            test[at] = value
    return {
        "settings": np.array(settings),
        "seeds": np.array(seeds),
        "metrics": np.array(metrics),
        "curves": curves,
        "best": best,
        "test": test,
    }


def _name(settings: Mapping[str, object], keys: tuple[str, ...]) -> str:
    return " ".join(f"{key}={shown(settings[key])}" for key in keys)


if __name__ == "__main__":
    main(sys.argv[1:])
