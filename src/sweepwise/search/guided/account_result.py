"""The result of a guided search against the default on fresh seeds, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sweepwise.improvement import sign
from sweepwise.results.sentences import apart, decimals, number
from sweepwise.results.statistics.difference import Difference, difference, resolution
from sweepwise.results.statistics.estimate import Estimate, mean_interval
from sweepwise.search.guided.account import Account
from sweepwise.search.guided.account_words import NO_VALUE, finite, seeds, shortened

BETTER, WORSE, SAME, OPEN, NONE = "better", "worse", "same", "not distinguishable", "no claim"
NOT_CHECKED = "not compared with the default on fresh seeds, so how much it brings is not known"
REFUSED = "the default is kept"
SEEDS_LETTERS = 100  # of a list of seeds


@dataclass(frozen=True)
class Against:
    """One metric of the result and of the default, on fresh seeds.

    Attributes:
        tag: of the metric.
        sign: 1 where lower values are better, -1 where higher ones are.
        chosen: of the result; None if no seed has a value.
        default: of the default.
        difference: the result minus the default; None if one of them has no value.
    """

    tag: str
    sign: int
    chosen: Estimate | None
    default: Estimate | None
    difference: Difference | None

    @property
    def kind(self) -> str:
        """What can be said: BETTER, WORSE, SAME (equal with every seed), OPEN, or NONE: too few values."""
        found = self.difference
        if found is None or found.df == 0:
            return NONE
        if found.exact and found.mean == 0:
            return SAME
        if not (found.low > 0 or found.high < 0):
            return OPEN
        return BETTER if self.sign * found.mean < 0 else WORSE


def of_metric(account: Account) -> Against | None:
    """The metric that settings were compared by; None if the last stage was left out."""
    if not account.fresh:
        return None
    return against(account.metric, account.sign, account.chosen, account.default)


def of_test(account: Account) -> list[Against]:
    """Each metric of the test part."""
    chosen, default = (account.test.get(who, {}) for who in ("chosen", "default"))
    return [
        against(tag, _sign(tag, account), chosen.get(tag, {}), default.get(tag, {}))
        for tag in dict.fromkeys([*chosen, *default])
    ]


def against(tag: str, sign: int, chosen: Mapping[int, float], default: Mapping[int, float]) -> Against:
    """The comparison of two sets of values, by pairs of seeds.

    The step in which a metric moves counts as in an answer (`statistics.difference.resolution`): three
    equal differences of an accuracy are no proof.

    Args:
        tag: of the metric.
        sign: 1 where lower values are better, -1 where higher ones are.
        chosen: values of the result, by seed; those that are not finite do not count.
        default: of the default.

    Example:
        >>> found = against("val/loss", 1, {5: 0.41, 6: 0.43, 7: 0.42}, {5: 0.50, 6: 0.55, 7: 0.52})
        >>> found.kind, round(found.difference.mean, 4), found.difference.n_a
        ('better', -0.1033, 3)
    """
    first, second = finite(chosen), finite(default)
    shared = first.keys() & second.keys()
    equal = bool(shared) and all(first[seed] == second[seed] for seed in shared)
    step = 0.0 if equal else resolution([*first.values(), *second.values()])
    return Against(
        tag,
        sign,
        mean_interval(first.values()) if first else None,
        mean_interval(second.values()) if second else None,
        difference(first, second, resolution=step) if first and second else None,
    )


def _sign(tag: str, account: Account) -> int:
    """Which direction of a metric of the test part is better: that of the same metric elsewhere, if known."""
    same = tag.partition("/")[2] == account.metric.partition("/")[2]
    return account.sign if same else sign(tag, "auto")


def is_default(account: Account) -> bool:
    """Whether the result is the default itself, so that there is nothing to compare."""
    return not account.found and account.chosen == account.default


def subject(account: Account) -> str:
    """What the values called `chosen` are of: the last stage may have refused what those before had found."""
    if account.found:
        return "the result"
    return "the result, which is the default" if is_default(account) else "what the stages had found"


def estimated(estimate: Estimate | None) -> str:
    """A mean with its 95 % interval, in words; of one value no interval."""
    return number(estimate) if estimate else NO_VALUE


def signed(found: Difference | None) -> str:
    """A difference with its sign and its interval; without an interval where there is none.

    Example:
        >>> signed(difference({0: 1.0, 1: 2.0, 2: 2.0}, {0: 2.0, 1: 2.5, 2: 2.5}))
        '-0.67 [-1.38, 0.05]'
    """
    if found is None:
        return NO_VALUE
    if found.exact or not math.isfinite(found.high - found.low):
        return f"{found.mean:+.3g}" if found.mean else "0"
    places = decimals((found.high - found.low) / 2, found.mean)
    low, high = (round(end, places) + 0.0 for end in (found.low, found.high))  # no -0.00
    return f"{round(found.mean, places) + 0.0:+.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def p_value(found: Difference | None) -> str:
    """The p value of a difference, in words; '' where there is none.

    Example:
        >>> p_value(difference({0: 1.0, 1: 2.0, 2: 2.0}, {0: 2.0, 1: 2.5, 2: 2.5}))
        'p = 0.0572'
    """
    if found is None or found.df == 0 or found.exact:
        return ""
    return f"p = {found.p:.3g}" if found.p >= 0.001 else "p < 0.001"


def conclusion(account: Account) -> str:
    """What can be said of the result against the default, in words; in one line."""
    one = of_metric(account)
    if one is None:
        return NOT_CHECKED
    if is_default(account):
        return REFUSED
    if one.chosen and not one.default and (broken := _became_of_the_default(account)):
        return f"the default has no value ({broken}), the result has one with {seeds(one.chosen.n)}"
    return verdict(one) if account.found else f"{REFUSED}; what the stages had found is {verdict(one)}"


def _became_of_the_default(account: Account) -> str:
    """What the last stage says of the default: '3 of 3 runs diverged'; '' if nothing."""
    return next((row.note for row in account.chapters[-1].compared if not row.overrides), "")


def verdict(one: Against) -> str:
    """What can be said of a metric against that of the default, in words."""
    found = one.difference
    if found is None:
        who = "the default has no" if one.chosen else "the result has no" if one.default else "neither has a"
        return f"nothing can be said, as {who} value"
    n, p = min(found.n_a, found.n_b), p_value(found)
    by = ", ".join(part for part in (apart(found), p) if part)
    left_out = f" ({found.left_out} left out, with a value of one of the two)" if found.left_out else ""
    ahead = "equal" if found.mean == 0 else "ahead by" if one.sign * found.mean < 0 else "behind by"
    by_ahead = f"{ahead} {by}" if found.mean else ", ".join(part for part in (ahead, p) if part)
    if one.kind == NONE:
        return f"{by_ahead}; with {seeds(n)} nothing can be claimed{left_out}"
    if one.kind == SAME:
        return f"equal to the default with each of {seeds(n)}{left_out}"
    if one.kind == OPEN:
        return f"not distinguishable from the default with {seeds(n)}: {by_ahead}{left_out}"
    return f"{one.kind} than the default by {by}, with {seeds(n)}{left_out}"


def reached(account: Account) -> str:
    """What the result has reached, in one line."""
    one = of_metric(account)
    if one is None:
        return f"{account.metric} {NOT_CHECKED}"
    fresh = f"on {seeds(len(account.fresh))} that no stage had used"
    if not account.found:
        return f"{REFUSED}, {account.metric} {estimated(one.default)} {fresh}"
    return f"{account.metric} {estimated(one.chosen)} {fresh}, the default {estimated(one.default)}"


def row(one: Against) -> tuple[str, str, str, str, str]:
    """A metric as a row of a table: its tag, both means with their intervals, the difference, p."""
    p = p_value(one.difference).removeprefix("p ").removeprefix("= ")
    return one.tag, estimated(one.chosen), estimated(one.default), signed(one.difference), p


def tested_on(account: Account) -> str:
    """What a table of such rows is about, in words."""
    fresh = shortened(", ".join(map(str, account.fresh)), SEEDS_LETTERS)
    on = f"{seeds(len(account.fresh))} that no stage had used ({fresh})"
    return f"Means with 95 % intervals over {on}; the difference is by pairs of seeds."
