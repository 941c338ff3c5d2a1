"""How often a race drops a setting wrongly, and how many runs it saves: the tables of docs/search.md.

  python benchmarks/racing.py errors 400     settings whose true means are known, 400 races of each kind
  python benchmarks/racing.py curves 200     stored trainings (benchmarks/curves), 200 races of each task

What is raced is `search.racing.Racing` itself. Its runs are drawn: for `errors` from distributions, for
`curves` from the 16 seeds of each setting, with replacement, so that their means are the truth.
"""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweepwise.results.statistics.selection import chosen_p
from sweepwise.search.racing import Racing, RacingSettings
from sweepwise.search.strategy import Result

CURVES = Path(__file__).parent / "curves"
SEEDS = 20
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]  # (settings, seeds), true means


@dataclass(frozen=True)
class Raced:
    """What a race came to.

    Attributes:
        wrong: it dropped a setting for one that is no better.
        runs: that it asked for.
        best: the setting that it names.
        left: how many were not dropped.
        why: it ended.
    """

    wrong: bool
    runs: int
    best: int
    left: int
    why: str


def race(values: np.ndarray, means: np.ndarray, rules: RacingSettings) -> Raced:
    """Races settings whose runs are known.

    Args:
        values: (settings, seeds), lower is better.
        means: the true mean of each setting.
        rules: of the race.
    """
    settings, seeds = values.shape
    names = [(f"x={one}",) for one in range(settings)]
    strategy = Racing(names, [(f"seed.value={seed}",) for seed in range(seeds)], 1, rules)
    every = {
        (*name, f"seed.value={seed}"): Result("finished", float(values[one, seed]))
        for one, name in enumerate(names)
        for seed in range(seeds)
    }
    known: dict[tuple[str, ...], Result] = {}
    wrong = False
    while True:
        step = strategy.next(known)
        for one in step.decisions:
            if one.what == "drop":
                place, than = (int(one.about[key].removeprefix("x=")) for key in ("setting", "than"))
                wrong |= bool(means[place] <= means[than])
        if not step.trials:
            about = step.decisions[-1].about
            best, why = int(about["best"].removeprefix("x=")), step.decisions[-1].why
            return Raced(wrong, about["runs"], best, len(about["left"]), why)
        known |= {trial.overrides: every[trial.overrides] for trial in step.trials}


def _equal(noise: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]) -> Draw:
    return lambda g, settings: (noise(g, (settings, SEEDS)), np.zeros(settings))


def _ahead(by: float) -> Draw:
    """One best, all others equal."""

    def draw(g: np.random.Generator, settings: int) -> tuple[np.ndarray, np.ndarray]:
        means = np.full(settings, by)
        means[0] = 0
        return g.normal(size=(settings, SEEDS)) + means[:, None], means

    return draw


def _spread(g: np.random.Generator, settings: int) -> tuple[np.ndarray, np.ndarray]:
    means = np.arange(settings) * 0.5
    return g.normal(size=(settings, SEEDS)) + means[:, None], means


def _deviations(g: np.random.Generator, shape: tuple[int, int], *, of: np.ndarray) -> np.ndarray:
    return g.normal(size=shape) * of[:, None]


KINDS: dict[str, Draw] = {
    "all equal, normal": _equal(lambda g, shape: g.normal(size=shape)),
    "all equal, seeds shared": _equal(lambda g, shape: g.normal(size=shape) + 2 * g.normal(size=shape[1])),
    "deviations 1 and 5": _equal(
        lambda g, shape: _deviations(g, shape, of=np.where(np.arange(shape[0]) % 2, 1, 5))
    ),
    "deviations lognormal": _equal(
        lambda g, shape: _deviations(g, shape, of=np.exp(g.normal(size=shape[0])))
    ),
    "one of deviation 10": _equal(
        lambda g, shape: _deviations(g, shape, of=np.where(np.arange(shape[0]), 1, 10))
    ),
    "one of deviation 3": _equal(
        lambda g, shape: _deviations(g, shape, of=np.where(np.arange(shape[0]), 1, 3))
    ),
    "one of deviation 0.1": _equal(
        lambda g, shape: _deviations(g, shape, of=np.where(np.arange(shape[0]), 1, 0.1))
    ),
    "exponential": _equal(lambda g, shape: g.exponential(size=shape)),
    "exponential, to both sides": _equal(
        lambda g, shape: (g.exponential(size=shape) - 1) * np.where(np.arange(shape[0]) % 2, 1, -1)[:, None]
    ),
    "t with 3 df": _equal(lambda g, shape: g.standard_t(3, size=shape)),
    "accuracy 0.95 of 100": _equal(lambda g, shape: -g.binomial(100, 0.95, size=shape) / 100),
    "accuracy 0.98 of 35": _equal(lambda g, shape: -g.binomial(35, 0.98, size=shape) / 35),
    "best ahead by 1": _ahead(1),
    "best ahead by 2": _ahead(2),
    "best ahead by 5": _ahead(5),
    "each 0.5 behind the next": _spread,
}


def stored(task: str) -> np.ndarray:
    """The results of a task, (settings, seeds), lower is better."""
    found: np.ndarray = np.load(CURVES / f"{task}.npz")["best"].astype(float)
    return found


def resampled(values: np.ndarray, g: np.random.Generator) -> np.ndarray:
    """As many seeds as a race may have, drawn from those that are stored."""
    return values[:, g.integers(values.shape[1], size=SEEDS)]


def right_at(values: np.ndarray, races: int, g: np.random.Generator) -> np.ndarray:
    """The share of fixed designs with 1, 2, ... `SEEDS` seeds that name the truly best setting."""
    means = np.array([resampled(values, g).cumsum(axis=1) for _ in range(races)])
    share: np.ndarray = (means.argmin(axis=1) == values.mean(axis=1).argmin()).mean(axis=0)
    return share


def left_at(values: np.ndarray, races: int, g: np.random.Generator) -> np.ndarray:
    """How many settings fixed designs with 1, 2, ... `SEEDS` seeds leave undecided, on average.

    As `against_best` of an answer says it: 5 % of designs call one worse that is not.
    """
    settings = len(values)
    left = np.full((races, SEEDS), float(settings))
    for row in left:
        drawn = resampled(values, g)
        for seeds in range(2, SEEDS + 1):
            seen = drawn[:, :seeds]
            behind = seen - seen[seen.mean(axis=1).argmin()]
            error = np.maximum(behind.std(axis=1, ddof=1) / np.sqrt(seeds), 1e-12)
            row[seeds - 1] -= (chosen_p(behind.mean(axis=1) / error, seeds - 1, settings) <= 0.05).sum()
    found: np.ndarray = left.mean(axis=0)
    return found


def errors(races: int) -> None:
    """Prints for each kind how many races drop a setting wrongly, and the share of the runs they need."""
    for kind, draw in KINDS.items():
        line = []
        for settings in (5, 30):
            g = np.random.default_rng(settings)
            found = [race(*draw(g, settings), RacingSettings(max_seeds=SEEDS)) for _ in range(races)]
            wrong = np.mean([one.wrong for one in found])
            runs = np.mean([one.runs for one in found]) / settings / SEEDS
            line.append(f"{100 * wrong:5.1f} %  {100 * runs:4.0f} %")
        print(f"{kind:28}{'    '.join(line)}", flush=True)


def curves(races: int) -> None:
    """Prints what races of stored trainings come to, beside designs with `SEEDS` seeds of every setting."""
    for path in sorted(CURVES.glob("*.npz")):
        values, g = stored(path.stem), np.random.default_rng(0)
        best = values.mean(axis=1)
        found = [race(resampled(values, g), best, RacingSettings(max_seeds=SEEDS)) for _ in range(races)]
        level = values - best[:, None]
        equal = [
            race(resampled(level, g), np.zeros(len(best)), RacingSettings(max_seeds=SEEDS))
            for _ in range(races)
        ]
        right = float(np.mean([one.best == best.argmin() for one in found]))
        left, runs = (float(np.mean([getattr(one, name) for one in found])) for name in ("left", "runs"))
        named, undecided = right_at(values, 1000, g), left_at(values, 60, g)
        fewest = int((named >= right).argmax()) + 1 if (named >= right).any() else SEEDS
        print(
            f"{path.stem}: {runs:.0f} runs, saved {100 * (1 - runs / len(values) / SEEDS):.0f} %; "
            f"names the best in {100 * right:.0f} % (fixed: {100 * named[-1]:.0f} %), leaves {left:.1f} "
            f"(fixed: {undecided[-1]:.1f}); wrong drops {_percent(found)}, with means made equal "
            f"{_percent(equal)}; ends: {_ends(found)}; the best mean of {fewest} seeds is right as often",
            flush=True,
        )


def _ends(found: list[Raced]) -> str:
    return ", ".join(f"{count} {why}" for why, count in Counter(one.why for one in found).most_common())


def _percent(found: list[Raced]) -> str:
    return f"{100 * np.mean([one.wrong for one in found]):.1f} %"


if __name__ == "__main__":
    {"errors": errors, "curves": curves}[sys.argv[1]](int(sys.argv[2]))
