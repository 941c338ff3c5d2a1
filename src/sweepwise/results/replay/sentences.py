"""What a replay says, in English and in Chinese."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sweepwise.results.question import label
from sweepwise.results.replay.early_stopping import Replay
from sweepwise.results.replay.halving import Halving
from sweepwise.results.replay.losing import seeds_needed
from sweepwise.results.replay.over_settings import Mean
from sweepwise.results.replay.replayed import Replayed
from sweepwise.results.sentences import decimals
from sweepwise.results.statistics.difference import Difference
from sweepwise.results.table import chosen_by

Text = dict[str, str]  # by language: 'en' and 'zh'


def about(found: Replay) -> Text:
    """What was replayed."""
    runs, settings, metric = len(found.curves.ended), len(found.settings), found.table.metric
    sure = f"{100 * found.confidence:g} %"
    lower = found.table.sign == 1
    return {
        "en": f"{runs} run{'s' * (runs != 1)} of {settings} setting{'s' * (settings != 1)}, each against "
        f"itself as it was trained; {metric} with the weights kept, {'lower' if lower else 'higher'} is "
        f"better; means over settings, each interval alone with {sure} confidence",
        "zh": f"{settings} 组设置的 {runs} 次训练，每次与其实际训练的结果相比；"
        f"以保留权重的 {metric} 衡量，"
        f"{'越低' if lower else '越高'}越好；对各组设置取平均，"
        f"每个区间单独的置信度为 {sure}",
    }


def notes(found: Replay) -> Iterator[Text]:
    """What the numbers do not say: what was left out, what is hidden, what is a bound."""
    metric = found.table.metric
    if found.curves.left_out:
        told = ", ".join(f"{count} {why}" for why, count in found.curves.left_out.items())
        yield {"en": f"left out: {told}", "zh": f"未计入：{told}"}
    if found.shortened:
        yield {
            "en": f"{found.shortened} of the runs were stopped early themselves: what is lost against them "
            "is a lower bound; where a rule would have gone on, nobody knows how far: censored, in no mean",
            "zh": f"其中 {found.shortened} 次训练本身就提前停止：与之相比的损失只是下界；"
            "若规则会继续训练，则无从得知到何时：记为删失，不计入任何平均值",
        }
    if any(one.rescued for one in found.rules):
        most = max(found.rules, key=lambda one: one.rescued)
        count, of = most.rescued, len(found.curves.diverged)
        yield {
            "en": f"{named(most)} would have ended {count} of {of} runs before they diverged; in no mean",
            "zh": f"{named(most)} 会使 {of} 次发散的训练中的 {count} 次在发散前结束；它们不计入任何平均值",
        }
    yield from _without(found)
    if any(chosen_by(curve.row.run) == metric for curve in found.curves.ended):
        best, best_zh = ("least", "最小值") if found.table.sign == 1 else ("largest", "最大值")
        yield {
            "en": f"a run is worth the {best} {metric} of its epochs, which more epochs make better by luck "
            "too: so what is lost is overstated, against stopping",
            "zh": f"一次训练以其各轮 {metric} 的{best_zh}计，轮次越多，单凭运气也会越好："
            "因此损失被高估，不利于提前停止",
        }
    if not metric.startswith("val/"):
        yield {
            "en": f"{metric} says how well the training part was fitted, not how good a setting is elsewhere",
            "zh": f"{metric} 只说明对训练部分的拟合程度，不说明设置在新数据上的好坏",
        }
    if len(found.curves.ended) == len(found.settings):
        yield {
            "en": "no setting was repeated, so there is no interval, and nothing can be claimed: add seeds",
            "zh": "没有任何设置被重复，因此没有区间，也无法下结论：请增加种子",
        }


def _without(found: Replay) -> Iterator[Text]:
    """Runs that are in no mean of a rule, as something was not measured."""
    metric = found.table.metric
    for name, english, chinese in (
        ("unmeasured", "never measured what a rule watches", "从未测量规则所用的指标"),
        ("valueless", f"would have kept weights without a {metric}", f"所保留的权重没有 {metric}"),
    ):
        if most := max((getattr(one, name) for one in found.rules), default=0):
            yield {
                "en": f"up to {most} runs {english}, and are not in its means",
                "zh": f"至多 {most} 次训练{chinese}，不计入其平均值",
            }


def recommendation(found: Replay) -> Text:
    """Which rule to use, if any."""
    best, metric = found.recommended, found.table.metric
    if not math.isfinite(found.margin.value):
        return {"en": "no rule can be recommended yet", "zh": "尚不能推荐任何规则"}
    limit, given = f"{found.margin.value:.2g}", found.margin.rule == "given"
    en = f"{limit} of {metric} ({'the margin' if given else '0.95 standard deviations of a run'})"
    zh = f"{metric} 的 {limit}（{'给定的界限' if given else '单次训练标准差的 0.95 倍'}）"
    if best is None or best.saved is None or best.lost is None:
        return _not_recommended(found, en, zh)
    who, saved, lost = found.harmed(best), percent(best.saved), interval(best.lost)
    rare, sure = f"{100 * found.rare:g} %", f"{100 * found.confidence:g} %"
    most = f", at most {best.worst:.2g}" if best.losing else ""
    most_zh = f"，至多 {best.worst:.2g}" if best.losing else ""
    where = " in any of these settings" * who.everywhere
    where_zh = "在其中任何一组设置下" * who.everywhere
    return {
        "en": f"{named(best)} saves {saved} of the epochs, against the runs as they were trained; with "
        f"{sure} confidence at most {rare} of all seeds lose more than {en} by it{where} "
        f"({who.seeds} of {who.of} did); leaving aside rarer losses, which nothing bounds, the mean loss is "
        f"less than that too: {lost}; {best.losing} of {best.n} runs lose anything{most}",
        "zh": f"与实际训练相比，{named(best)} 节省 {saved} 的轮次；以 {sure} 的置信度，"
        f"所有种子中至多 {rare} {where_zh}会损失超过 {zh}"
        f"（已有的 {who.of} 个种子中有 {who.seeds} 个）；撇开更罕见的损失不论（它们没有界限），"
        f"平均损失也不到该值：{lost}；"
        f"{best.n} 次训练中有 {best.losing} 次有损失{most_zh}",
    }


def _not_recommended(found: Replay, en: str, zh: str) -> Text:
    """That no rule is recommended, and why: too few seeds, or losses."""
    best = found.promising
    if best is None or best.saved is None:
        return {
            "en": f"no rule is recommended: each that surely saves epochs made some run lose more than "
            f"{en}, or may lose as much on average",
            "zh": f"不推荐任何规则：凡确定节省轮次的规则，都使某次训练的损失超过 {zh}，"
            "或平均损失可能达到该值",
        }
    who, saved = found.harmed(best), percent(best.saved)
    rare, bound = f"{100 * found.rare:g} %", f"{100 * who.bound:.0f} %"
    needed = seeds_needed(found.rare, found.level)
    return {
        "en": f"no rule is recommended: {who.of} seed{'s' * (who.of != 1)} cannot show that at most {rare} "
        f"of all seeds lose more than {en}, which takes {needed} or more; {named(best)} saves {saved} of "
        f"the epochs, and none of {best.n} runs lost more, but up to {bound} of other seeds may",
        "zh": f"不推荐任何规则：{who.of} 个种子不足以表明所有种子中至多 {rare} 会损失超过 {zh}，"
        f"这至少需要 {needed} 个；{named(best)} 节省 {saved} 的轮次，"
        f"{best.n} 次训练都没有损失更多，但其他种子中至多可能有 {bound} 会",
    }


def halved(found: Replay, one: Halving) -> Text:
    """What successive halving would have made of the sweep."""
    rungs, sizes = (", ".join(map(str, numbers)) for numbers in (one.rungs, one.sizes))
    winner = label(found.table.settings, one.winner)
    en, zh = _kept(one)
    chosen, chosen_zh = _chosen(one)
    left_out = f"; {one.left_out} setting{'s' * (one.left_out > 1)} left out" if one.left_out else ""
    left_out_zh = f"；{one.left_out} 组设置未参与" if one.left_out else ""
    return {
        "en": f"successive halving after {rungs} epoch{'s' * (one.rungs != (1,))} (1 of {one.eta} kept: "
        f"{sizes} settings) saves {100 * one.saved:.0f} % of the epochs and {en} the best setting "
        f"({winner}); what it chooses {chosen}{left_out}",
        "zh": f"在第 {rungs} 轮后做逐次减半（每 {one.eta} 组留 1 组：{sizes} 组设置）节省 "
        f"{100 * one.saved:.0f} % 的轮次，{zh}最佳设置（{winner}）；"
        f"各次抽取所选设置{chosen_zh}{left_out_zh}",
    }


def _chosen(one: Halving) -> tuple[str, str]:
    """What is lost by what was chosen, in English and Chinese."""
    en, zh = [], []
    if math.isfinite(one.lost):
        en.append(f"is worse by {one.lost:.2g} on average over draws")
        zh.append(f"平均差 {one.lost:.2g}")
    if one.failing:
        share = f"{100 * one.failing:.2g} %"
        en.append(
            f"fails in more of its runs than the best in {share} of draws"
            + ", which that mean leaves out" * bool(en)
        )
        zh.append(f"在 {share} 的抽取中失败的训练多于最佳设置" + "（不计入该平均值）" * bool(zh))
    return ", and ".join(en) or "cannot be compared", "，".join(zh) or "无法比较"


def _kept(one: Halving) -> tuple[str, str]:
    """How often the winner was kept, in English and Chinese."""
    if one.draws == 1:
        return (
            f"would {'' if one.kept else 'not '}have kept, as far as one run of each tells,",
            f"就每组一次训练而言{'会' if one.kept else '不会'}保留",
        )
    share = f"{100 * one.kept:.0f} %"
    draws = f"in {share} of {one.draws} draws of any run of each setting"
    draws_zh = f"在每组设置任取一次训练的 {one.draws} 次抽取中有 {share} 会保留"
    if one.seeds < 2:
        return f"would have kept, {draws},", draws_zh
    return (
        f"would have kept, with {one.seeds_kept} of {one.seeds} seeds (one for all settings) and {draws},",
        f"在所有设置共用一个种子时 {one.seeds} 个种子中有 {one.seeds_kept} 个、{draws_zh}",
    )


def percent(share: Mean) -> str:
    """A share with its interval: '41 % [39, 43]'."""
    ends = "" if math.isinf(share.high - share.low) else f" [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    return f"{100 * share.mean:.0f} %{ends}"


def interval(found: Mean | Difference) -> str:
    """A mean with its interval, to two digits of the interval's half width."""
    if math.isinf(found.high - found.low):
        return f"{found.mean:.3g}"
    places = decimals((found.high - found.low) / 2, found.mean)
    mean, low, high = (round(end, places) + 0.0 for end in (found.mean, found.low, found.high))  # no -0.00
    return f"{mean:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def named(one: Replayed) -> str:
    """A rule as it is given to a training."""
    return " ".join(one.rule.overrides)
