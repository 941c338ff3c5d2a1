"""How often halving chooses a setting as good as the best, and what that costs: the table of docs/search.md.

  python benchmarks/halving.py 200           stored trainings (benchmarks/curves), 200 searches of each kind

What searches is `search.halving.Halving` itself. Each search draws seeds for each setting from the 16 that
were trained. The truth is the mean over all of them; as good as the best is what is worse by no more than
a standard deviation of the best setting's runs. Beside it: one epoch of all settings, then as many of the
best to their end as the same epochs allow; and all settings to their end.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sweepwise.search.brackets import Training
from sweepwise.search.halving import Halving, HalvingSettings
from sweepwise.search.strategy import Result, Trial

CURVES = Path(__file__).parent / "curves"
KINDS: Mapping[str, HalvingSettings] = {
    "eta=3": HalvingSettings(),
    "eta=3 min_epochs=3": HalvingSettings(min_epochs=3),
    "eta=3 brackets=2": HalvingSettings(brackets=2),
    "eta=2 min_epochs=2": HalvingSettings(eta=2, min_epochs=2),
    "eta=3 at_once=8": HalvingSettings(at_once=8),
}


def search(curves: np.ndarray, ends: np.ndarray, options: HalvingSettings) -> tuple[int, int]:
    """The setting that a search chooses, and the epochs that it trains.

    Args:
        curves: (settings, seeds, epochs), lower is better.
        ends: (settings, seeds) of the weights kept.
        options: of the search.
    """
    settings, seeds, epochs = curves.shape
    runs = [[(f"a={a}", f"seed.value={seed}") for seed in range(seeds)] for a in range(settings)]
    strategy = Halving(runs, Training(epochs), options)
    known: dict[tuple[str, ...], Result] = {}
    while trials := (step := strategy.next(known)).trials:
        known |= {trial.overrides: _result(trial, curves, ends) for trial in trials}
    best = step.decisions[-1].about["best"]
    return int(best[0].partition("=")[2]), sum(result.epochs for result in known.values())


def _result(trial: Trial, curves: np.ndarray, ends: np.ndarray) -> Result:
    place = tuple(int(text.partition("=")[2]) for text in trial.overrides)
    epochs = trial.epochs or curves.shape[2]
    curve = {epoch + 1: float(curves[place][epoch]) for epoch in range(epochs)}
    if trial.epochs:
        return Result("pruned", min(curve.values()), curve, epochs)
    return Result("finished", float(ends[place]), curve, epochs)


def first_epoch(curves: np.ndarray, ends: np.ndarray, cost: int) -> int:
    """What one epoch of all settings chooses, and the best of them to their end, for so many epochs."""
    settings, seeds, epochs = curves.shape
    kept = max(1, (cost - settings * seeds) // (seeds * (epochs - 1)))
    order = np.argsort(curves[:, :, 0].mean(1), kind="stable")[:kept]
    return int(order[ends[order].mean(1).argmin()])


def main(arguments: list[str]) -> None:
    """Prints a row for each task, number of seeds and kind of search."""
    searches = int(arguments[0]) if arguments else 200
    print(f"{'task':<10}{'seeds':>5}  {'search':<20}{'epochs':>7}{'as good':>9}{'first epoch':>13}{'all':>6}")
    for path in sorted(CURVES.glob("*.npz")):
        stored = np.load(path)
        curves, best = stored["curves"][..., 0].astype(float), stored["best"].astype(float)
        means = np.nanmean(best, axis=1)
        good = means <= means.min() + np.nanstd(best[means.argmin()], ddof=1)
        for seeds in (1, 3):
            generator = np.random.default_rng(0)
            draws = [_drawn(generator, curves, best, seeds) for _ in range(searches)]
            for name, options in KINDS.items():
                found = [search(*draw, options) for draw in draws]
                share = np.mean([cost for _, cost in found]) / (curves.shape[0] * seeds * curves.shape[2])
                others = [first_epoch(*draw, cost) for draw, (_, cost) in zip(draws, found, strict=True)]
                every = [int(ends.mean(1).argmin()) for _, ends in draws]
                shares = [np.mean(good[chosen]) for chosen in ([a for a, _ in found], others, every)]
                cells = (f"{100 * one:.0f} %" for one in (share, *shares))
                row = f"{path.stem:<10}{seeds:>5}  {name:<20}"
                print(
                    row
                    + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (7, 9, 13, 6), strict=True))
                )


def _drawn(
    generator: np.random.Generator, curves: np.ndarray, best: np.ndarray, seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Other seeds for each setting."""
    settings, all_seeds = best.shape
    picked = np.stack([generator.permutation(all_seeds)[:seeds] for _ in range(settings)])
    rows = np.arange(settings)[:, None]
    return np.nan_to_num(curves[rows, picked], nan=np.inf), np.nan_to_num(best[rows, picked], nan=np.inf)


if __name__ == "__main__":
    main(sys.argv[1:])
