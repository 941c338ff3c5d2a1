"""The tables of benchmarks/guided.py, from its raw.json: python benchmarks/guided_tables.py FOLDER

    test loss       mean over repetitions and fresh seeds, with its 95 % interval; lower is better
    by repetition   means over the fresh seeds of each
    guided against  mean difference in test loss of guided to a method, paired by repetition and fresh seed,
                    with its 95 % half width. 'lower': it is below 0; 'not worse': it is at most that half
                    width; else WORSE

Intervals are Student's over repetitions x seeds, as if these were independent. Seeds of a repetition share
the choice and the split, so they are rather narrow. A wide interval makes 'not worse' easy: read
'lower' too.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

COSTS = ("runs", "epochs", "steps", "seconds")
GUIDED = "guided"
By = Mapping[str, Mapping[str, Any]]  # method -> repetition -> what was measured


def tables(raw: Mapping[str, By]) -> str:
    """Both tables, as Markdown.

    Args:
        raw: task -> method -> repetition -> 'found', COSTS, and 'test': metrics by fresh seed.
    """
    return "\n".join([*results(raw), "", *against(raw)])


def results(raw: Mapping[str, By]) -> Iterator[str]:
    """What each method reaches and what its search costs, a line at a time; costs a repetition."""
    yield "| task | method | test loss | by repetition | accuracy | runs | epochs | steps | seconds |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for task, methods in raw.items():
        for method, told in methods.items():
            loss, half = interval(losses(told))
            each = ", ".join(f"{one:.4f}" for one in losses(told).mean(axis=1))
            accuracy = losses(told, "test/accuracy").mean()
            shown = "" if math.isnan(accuracy) else f"{100 * accuracy:.1f} %"
            spent = " | ".join(f"{np.mean([one[key] for one in told.values()]):.0f}" for key in COSTS)
            yield f"| {task} | {method} | {loss:.4f} ± {half:.4f} | {each} | {shown} | {spent} |"


def against(raw: Mapping[str, By]) -> Iterator[str]:
    """Guided against each other method, a line at a time."""
    others = list(dict.fromkeys(method for methods in raw.values() for method in methods if method != GUIDED))
    verdicts: dict[str, list[str]] = {method: [] for method in others}
    yield f"| guided against | {' | '.join(others)} |"
    yield f"|---|{'---|' * len(others)}"
    for task, methods in raw.items():
        cells = []
        for method in others:
            both = methods.get(GUIDED, {}).keys() & methods.get(method, {}).keys()
            if not both:
                cells.append("")
                continue
            ours, theirs = (losses({key: methods[one][key] for key in both}) for one in (GUIDED, method))
            difference, half = interval(ours - theirs)
            lower, equal = ours.mean() < theirs.mean(), difference <= half
            verdicts[method].append("lower" if lower else "not worse" if equal else "WORSE")
            cells.append(f"{difference:+.4f} ± {half:.4f} {verdicts[method][-1]}")
        yield f"| {task} | {' | '.join(cells)} |"
    counts = [
        f"{_not_worse(one)} of {len(one)} not worse, {one.count('lower')} lower" for one in verdicts.values()
    ]
    yield f"| all | {' | '.join(counts)} |"


def _not_worse(verdicts: list[str]) -> int:
    return sum(verdict != "WORSE" for verdict in verdicts)


def losses(told: Mapping[str, Any], metric: str = "test/loss") -> np.ndarray:
    """A metric of a method, (repetitions, seeds); nan where there is none."""
    return np.array([[one.get(metric, math.nan) for one in told[key]["test"]] for key in sorted(told)])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of its 95 % interval, by Student's t; neither is finite if a loss is not."""
    with np.errstate(invalid="ignore"):
        error = values.std(ddof=1) / math.sqrt(values.size)
        return float(values.mean()), float(stats.t.ppf(0.975, values.size - 1) * error)


if __name__ == "__main__":
    print(tables(json.loads((Path(sys.argv[1]) / "raw.json").read_text())))
