"""The questions answered by hand: as a careful person would with pandas and scipy, and nothing of sweepwise.

python benchmarks/questions/by_hand.py outputs/question_schedule scheduler val/loss
python benchmarks/questions/by_hand.py benchmarks/questions/schedule.csv scheduler val/loss

Each value of the key is taken at its best other settings (fewest failed runs, then the best mean over
seeds). Two are compared by a paired t test over the seeds that both have, all pairs by Holm. That a value was
the best of several settings is paid for, as if all that could have been the best were equal. What differs
surely by less than a margin (two one-sided tests) is equivalent. Runs that diverged have failed, and count
(Fisher's exact test).
"""

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

SEED, ERROR = "seed.value", 0.05
SURELY = 0.998  # quantile of t beyond which a setting could not have been the best
WINS = 0.75  # share of pairs of single runs that the better one wins at the margin
KEYS = {  # that were swept; all else that was given is the same in all runs, or belongs to one of them
    "schedule": ["init", "optimizer.lr", "scheduler"],
    "regularizer": ["init", "optimizer.lr", "regularizer"],
    "dropout": ["model.activation", "optimizer.lr", "regularizer.dropout.p"],
}


def from_folders(home: Path, metric: str) -> pd.DataFrame:
    """A row a run, from its record: what was given on the command line, its status and its best value."""
    rows = []
    for path in home.glob("*/record.json"):
        known = json.loads(path.read_text())
        best = known.get("best") or {}
        value = best.get("value") if best.get("metric") == metric else None
        given = dict(text.split("=", 1) for text in known["overrides"])
        rows.append({**given, "status": known["status"], metric: math.nan if value is None else value})
    return pd.DataFrame(rows)


def levels(runs: pd.DataFrame, keys: list[str], key: str, metric: str) -> dict[str, pd.Series]:
    """The results of each value of the key at its best other settings, by seed; NaN for a run that failed."""
    ended = runs.status.isin(["finished", "stopped early"])
    runs = runs.assign(**{metric: runs[metric].where(ended)})
    rest = [other for other in keys if other != key]
    found = {}
    for value, of_value in runs.groupby(key):
        cells = [cell.set_index(SEED)[metric] for _, cell in of_value.groupby(rest)]
        cells.sort(key=lambda cell: (cell.isna().mean(), better_first(metric) * cell.mean()))
        found[str(value)] = cells[0]
        found[str(value)].attrs["of"] = 1 + sum(not surely_worse(cells[0], cell) for cell in cells[1:])
    return found


def surely_worse(best: pd.Series, other: pd.Series) -> bool:
    """Whether a setting is so far behind the best that luck would not have made it the best."""
    both = pd.concat([best, other], axis=1).dropna()
    apart = both.iloc[:, 0] - both.iloc[:, 1]
    if other.isna().all():
        return True
    t = abs(apart.mean()) / (apart.std() / math.sqrt(len(apart))) if len(apart) > 1 else 0
    return t > stats.t.ppf(SURELY, len(apart) - 1)


def chance(t: float, df: int, of: tuple[int, int]) -> float:
    """How often the best of so many equal settings is t standard errors ahead of one as good; both sides."""
    x, s = np.linspace(-8, 8, 801), np.linspace(1e-9, 6, 3001)
    density = stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df)

    def side(m: int) -> float:
        if m == 1:
            return float(stats.t.sf(t, df))
        beyond = 1 - special.ndtr(x[:, None] + t * math.sqrt(2) * s) ** m
        return float(np.trapezoid(np.trapezoid(stats.norm.pdf(x)[:, None] * beyond, x, axis=0) * density, s))

    return side(of[0]) + side(of[1])


def better_first(metric: str) -> int:
    """1 where low values are better, -1 where high ones are."""
    return -1 if metric.endswith(("accuracy", "r2")) else 1


def compare(found: dict[str, pd.Series], metric: str) -> pd.DataFrame:
    """All pairs, the one that looks better first: difference, interval, verdict."""

    def rank(name: str) -> tuple[float, float]:
        return found[name].isna().mean(), better_first(metric) * found[name].mean()

    pairs = list(itertools.combinations(sorted(found, key=rank), 2))
    tests, alone, p_values = [], [], []
    share = ERROR / max(len(pairs), 1)
    for one, other in pairs:
        both = pd.concat([found[one], found[other]], axis=1).dropna()
        test = stats.ttest_rel(both.iloc[:, 0], both.iloc[:, 1])
        of = found[one].attrs["of"], found[other].attrs["of"]
        reached = optimize.brentq(lambda t, df=test.df, of=of: chance(t, df, of) - share, 0.5, 1e3, rtol=1e-6)
        tests.append(test)
        alone.append(2 * stats.t.sf(reached, test.df))  # the level of this test that keeps the chance
        p_values.append(chance(abs(test.statistic), test.df, of))
    adjusted = holm(p_values)
    rows = []
    for (one, other), test, level, p in zip(pairs, tests, alone, adjusted, strict=True):
        low, high = test.confidence_interval(1 - level)
        mean = (low + high) / 2
        if p <= ERROR:  # decided by Holm, so 0 is no longer inside
            low, high = (max(low, 0.0), high) if mean > 0 else (low, min(high, 0.0))
        kind = verdict(found[one], found[other], test, p, level, metric)
        rows.append([one, other, mean, low, high, p, kind])
    return pd.DataFrame(rows, columns=["better", "other", "mean", "low", "high", "p", "verdict"])


def verdict(one: pd.Series, other: pd.Series, test, p: float, level: float, metric: str) -> str:
    """What a pair says; `one` looks better, as it failed less often or has the better mean."""
    failed = [int(series.isna().sum()) for series in (one, other)]
    table = [[failed[0], len(one) - failed[0]], [failed[1], len(other) - failed[1]]]
    if failed[0] / len(one) < failed[1] / len(other) and stats.fisher_exact(table).pvalue <= level / 2:
        return "better"
    if p <= ERROR:
        ahead = better_first(metric) * test.statistic < 0
        return "better" if ahead else "undecided"  # else the survivors of what failed more often look better
    deviation = math.sqrt((one.var() + other.var()) / 2)
    margin = math.sqrt(2) * stats.norm.ppf(WINS) * deviation
    within = test.confidence_interval(1 - 2 * level)
    inside = -margin < within.low and within.high < margin
    return "equivalent" if inside and failed[0] == failed[1] else "undecided"


def holm(p_values: list[float]) -> np.ndarray:
    """Adjusted p values: the smallest times m, the next times m - 1, ..., none below the one before it."""
    order = np.argsort(p_values)
    stepped = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def main(source: str, key: str, metric: str) -> None:
    path = Path(source)
    runs = pd.read_csv(path) if path.suffix == ".csv" else from_folders(path, metric)
    found = levels(runs, KEYS[path.stem.removeprefix("question_")], key, metric)
    for name, values in found.items():
        print(f"{name:<16} {values.mean():.4f}, {values.isna().sum()} of {len(values)} failed")
    print(compare(found, metric).to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main(*sys.argv[1:])
