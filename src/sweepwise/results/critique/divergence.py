"""Which settings make runs fail, and from which value of a number on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sweepwise.results.answer import Answer
from sweepwise.results.critique.boundary import Boundary, described, is_beyond
from sweepwise.results.critique.finding import LEVEL, Finding
from sweepwise.results.critique.scale import is_number
from sweepwise.results.further_runs import one_command, replicates_of
from sweepwise.results.languages import Both
from sweepwise.results.run_folder import shown
from sweepwise.results.table import Row, Table

PERMUTED = 999
MOST_PERMUTED = 1000  # runs beyond which the normal distribution takes the place of permutations
MOST_LEVELS = 24  # of a key whose single values are looked at
SINGLE = 0.1  # of the level, for a single value of a number; the rest is the trend's
DIVERGED = "diverged"


def boundaries(answer: Answer) -> Iterator[Finding]:
    """The boundary beyond which runs fail, if a key surely decides it."""
    found = boundary(answer.table)
    if found:
        yield _finding(answer, found)


def boundary(table: Table) -> Boundary | None:
    """The key that surely decides whether runs fail, and from where on.

    Failures are shuffled between the values of a key at equal other settings; where settings share none, as
    in a random search, between settings. For a number the statistic is the trend of failures over its ranks,
    else the value that fails most beyond its share. Times the number of keys, in at most 5 % of sweeps whose
    failures have nothing to do with the settings is p below 0.05.
    """
    rows = [row for row in table.rows if row.ended or row.failed]
    failed = np.array([row.failed for row in rows])
    if failed.sum() < 2 or failed.all():
        return None
    tested = {key: _test(table, key, rows, failed) for key in table.settings}
    sure = {key: found for key, found in tested.items() if found[0] * len(tested) <= LEVEL}
    if not sure:
        return None
    numeric = {key for key in sure if sure[key][1] is not None}
    key = min(numeric or sure, key=lambda key: (sure[key][0], -abs(sure[key][2])))
    p, high, _ = sure[key]
    found = described(table, key, high, rows, p * len(tested))
    elsewhere = len(rows) - found.runs
    return found if found.beyond * elsewhere > (found.failed - found.beyond) * found.runs else None


def _test(table: Table, key: str, rows: Sequence[Row], failed: NDArray) -> tuple[float, bool | None, float]:
    """The p value of a key, whether large values fail (None for no number), and the statistic."""
    place = table.settings.index(key)
    column = [row.setting[place] for row in rows]
    levels = [value for value in dict.fromkeys(column) if value is not None]
    numeric = all(map(is_number, levels))
    if len(levels) < 2 or (not numeric and len(levels) > MOST_LEVELS):
        return 1.0, None, 0.0
    use = [at for at, value in enumerate(column) if value is not None]
    rest = [rows[at].setting[:place] + rows[at].setting[place + 1 :] for at in use]
    strata = _codes(rest)
    y = failed[use].astype(float)
    codes = _codes([column[at] for at in use])
    several = [len(set(codes[strata == stratum])) > 1 for stratum in range(strata.max() + 1)]
    drawn = sum(several) < len(several) / 2
    if drawn or any(rows[at].failed and rows[at].status != DIVERGED for at in use):  # settings are the units
        cells = _codes([rows[at].setting for at in use])
        first = np.unique(cells, return_index=True)[1]
        y = np.bincount(cells, y) / np.bincount(cells)
        codes, strata = codes[first], np.zeros(len(first), int) if drawn else strata[first]
        column = [column[use[at]] for at in first]
    else:
        column = [column[at] for at in use]
    marks = (
        np.eye(codes.max() + 1)[codes] if not numeric or (len(levels) <= MOST_LEVELS and not drawn) else None
    )
    if not numeric:
        assert marks is not None
        p, z = _shuffled(y, marks, strata, two_sided=False)
        return p, None, z
    ranks = np.unique(np.array(column, float), return_inverse=True)[1].astype(float)[:, None]
    p, z = _shuffled(y, ranks, strata, two_sided=True)
    trend = (p / (1 - SINGLE) if marks is not None else p, z > 0, z)
    if marks is None or len(levels) < 3:
        return p, z > 0, z
    p, z = _shuffled(y, marks, strata, two_sided=False)
    return min(trend, (p / SINGLE, None, z), key=lambda test: test[0])


def _shuffled(y: NDArray, scores: NDArray, strata: NDArray, *, two_sided: bool) -> tuple[float, float]:
    """The p value of the most extreme statistic, and the statistic."""
    observed, variance = _moments(y, scores, strata)
    known = variance > 1e-12
    if not known.any():
        return 1.0, 0.0
    z = np.where(known, observed / np.sqrt(np.where(known, variance, 1.0)), 0.0)
    z = z[[np.argmax(np.abs(z))]] if two_sided else z
    largest = float(np.abs(z[0])) if two_sided else float(z.max())
    if len(y) > MOST_PERMUTED:
        p = min(float(ndtr(-largest)) * (2 if two_sided else int(known.sum())), 1.0)
    else:
        p = _permuted(y, scores, strata, np.where(known, variance, np.inf), largest, two_sided)
    return p, float(z[0]) if two_sided else largest


def _codes(values: Sequence[Hashable]) -> NDArray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def _moments(y: NDArray, scores: NDArray, strata: NDArray) -> tuple[NDArray, NDArray]:
    """Sum of the scores of failed runs less what chance expects, and its variance, over strata."""
    count = strata.max() + 1
    n = np.bincount(strata, minlength=count).astype(float)
    mean = np.stack([np.bincount(strata, column, count) / n for column in scores.T], axis=1)
    centred = scores - mean[strata]
    y_centred = y - (np.bincount(strata, y, count) / n)[strata]
    observed = centred.T @ y_centred
    square = np.bincount(strata, y_centred**2, count)
    spread = np.stack([np.bincount(strata, column**2, count) for column in centred.T], axis=1)
    return observed, (square[:, None] * spread / np.maximum(n - 1, 1)[:, None]).sum(axis=0)


def _permuted(
    y: NDArray, scores: NDArray, strata: NDArray, variance: NDArray, largest: float, two_sided: bool
) -> float:
    """Share of the ways to shuffle the failures within strata that look as extreme."""
    generator = np.random.default_rng(0)
    sums = np.zeros((PERMUTED, scores.shape[1]))
    for stratum in range(strata.max() + 1):
        here = np.flatnonzero(strata == stratum)
        if len(here) < 2 or np.ptp(y[here]) == 0:
            continue
        shuffled = generator.permuted(np.tile(y[here], (PERMUTED, 1)), axis=1)
        sums += (shuffled - y[here].mean()) @ (scores[here] - scores[here].mean(axis=0))
    z = sums / np.sqrt(variance)
    extreme = np.abs(z).max(axis=1) if two_sided else z.max(axis=1)
    return (1 + int((extreme >= largest - 1e-9).sum())) / (1 + PERMUTED)


def _finding(answer: Answer, found: Boundary) -> Finding:
    table = answer.table
    place = table.settings.index(found.key)
    other = table.settings.index(found.by) if found.by else -1
    whole = [
        ranked.setting
        for ranked in answer.ranking
        if ranked.estimate
        and not is_beyond(table.cells[ranked.setting][0], place, found.high, other, found.failing)
    ]
    cuts = [cut for cut in found.failing.values() if cut is not None]
    if found.high is not None and cuts:  # one range for all, where that leaves any
        limit = (min if found.high else max)(float(str(cut)) for cut in cuts)
        inside = [
            setting
            for setting in whole
            if (float(str(setting[place])) < limit) == found.high and float(str(setting[place])) != limit
        ]
        whole = inside or whole
    at = whole or [ranked.setting for ranked in answer.ranking if ranked.estimate][:1]
    more = max((len(table.cells[setting]) for setting in at), default=1)
    command = one_command(table, at, {}, replicates_of(table, at, more)) if at else ""
    return Finding("divergence", _text(found), _evidence(found), command)


def _text(found: Boundary) -> Both:
    parts_en, parts_zh = [], []
    for cut in dict.fromkeys(found.failing.values()):
        values = [value for value, other in found.failing.items() if other == cut]
        where = f"{found.by}={','.join(map(shown, values))}" if found.by else ""
        if cut is None:
            parts_en.append(f"none with {where}")
            parts_zh.append(f"{where} 时没有失败")
            continue
        sign = ("=", "=") if found.high is None else (" >= ", " ≥ ") if found.high else (" <= ", " ≤ ")
        parts_en.append(f"at {found.key}{sign[0]}{shown(cut)}{f' with {where}' if where else ''}")
        parts_zh.append(f"{f'{where} 时 ' if where else ''}{found.key}{sign[1]}{shown(cut)}")
    if 2 * found.beyond <= found.runs:
        en = f"{found.beyond} of {found.runs} runs fail {parts_en[0]}"
        zh = f"{parts_zh[0]} 时 {found.runs} 次运行中有 {found.beyond} 次失败"
    else:
        en, zh = f"runs fail {'; '.join(parts_en)}", f"运行在以下情况失败：{'；'.join(parts_zh)}"
    return Both(
        f"{en}: leave those out, and spend the runs on seeds of the others",
        f"{zh}。请去掉这些组合，把运行用在其余设置的种子上",
    )


def _evidence(found: Boundary) -> Both:
    others = found.failed - found.beyond
    p = f"p < {max(found.p, 0.001):.2g}" if found.p <= 0.001 else f"p = {found.p:.2g}"
    return Both(
        f"{found.beyond} of the {found.runs} runs there failed, and {others} elsewhere; {p}",
        f"这些情况的 {found.runs} 次运行中 {found.beyond} 次失败，其他情况有 {others} 次；{p}",
    )
