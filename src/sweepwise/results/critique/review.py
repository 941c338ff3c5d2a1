"""The whole critique of a sweep's search space."""

from __future__ import annotations

from sweepwise.results.answer import Answer
from sweepwise.results.critique.baseline import Default, from_conf, no_baseline
from sweepwise.results.critique.coarse import gaps
from sweepwise.results.critique.curves import Curves, from_folder
from sweepwise.results.critique.cut_off import cut_off
from sweepwise.results.critique.design import along, metric_step
from sweepwise.results.critique.divergence import boundaries
from sweepwise.results.critique.edge import edges
from sweepwise.results.critique.few_seeds import few_seeds
from sweepwise.results.critique.finding import ORDER, Finding
from sweepwise.results.critique.no_effect import findings, idle
from sweepwise.results.critique.patience import impatience


def critique(
    answer: Answer, curves: Curves = from_folder, default: Default = from_conf
) -> tuple[Finding, ...]:
    """What the results of a sweep say of its search space, the most important first.

    Each kind has at most 5 % false alarms in sweeps without its fault (docs/critique.md).

    Args:
        answer: of the sweep.
        curves: the metrics of each epoch of a run, by tag, with 'epoch'.
        default: of a key in a run.

    Example:
        >>> from sweepwise.results.answer import answer
        >>> from sweepwise.results.loading import from_records
        >>> losses = {0.1: [0.9, 0.91, 0.92], 0.2: [0.5, 0.52, 0.51], 0.3: [0.31, 0.3, 0.32]}
        >>> runs = [{"rate": r, "seed": s, "loss": x} for r, xs in losses.items() for s, x in enumerate(xs)]
        >>> [(one.kind, one.text[:45]) for one in critique(answer(from_records(runs, "loss")))]
        [('edge', 'rate=0.3, the largest value that was tried, i')]
    """
    table = answer.table
    step = metric_step(table)
    keys = [along(table, key, step) for key in table.settings]
    without_effect = idle(keys)
    found = [
        *cut_off(answer, curves),
        *impatience(answer, curves),
        *edges(answer, keys),
        *gaps(answer, keys),
        *boundaries(answer),
        *few_seeds(answer, [one.key for one in without_effect]),
        *no_baseline(answer, default),
        *findings(answer, without_effect),
    ]
    return tuple(sorted(found, key=lambda one: ORDER.index(one.kind)))
