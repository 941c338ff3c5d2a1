"""What is said of an answer beside its verdicts: what was compared, what failed, what it holds for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from sweepwise.results.answer import Answer
from sweepwise.results.comparison import Comparison
from sweepwise.results.languages import Both, joined
from sweepwise.results.question import Question
from sweepwise.results.run_folder import SPLIT, shown
from sweepwise.results.sentences import decimals
from sweepwise.results.statistics.effects import SURE, Effect
from sweepwise.results.statistics.estimate import skewed
from sweepwise.results.statistics.variance import split_standard_error
from sweepwise.results.table import CENSORED, FAILED, Table
from sweepwise.store import record

NEGLIGIBLE = 0.01  # share of the variance that is not worth a word
NAMED = 4  # effects that are
HOW = {"paired": Both("paired by seed", "按种子配对"), "welch": Both("independent runs", "独立的运行")}
WAITING = {
    "running": Both("running", "正在运行"),
    "interrupted": Both("interrupted", "已中断"),
    "pruned": Both("pruned", "已剪枝"),
}

PAUSED = Both(" without trainer.pause_after", "去掉 trainer.pause_after 后")

Passage = tuple[str, str]  # a key and a text


def about(answer: Answer) -> Both:
    """What was compared."""
    table = answer.table
    if not any(ranked.n for ranked in answer.ranking):
        statuses = ", ".join(f"{count} {status}" for status, count in answer.counts.items())
        paused = set(answer.counts) == {CENSORED}
        return Both(
            f"none yet, as no run has ended ({statuses}); the same command goes on{PAUSED * paused}",
            f"尚无，因为还没有运行结束（{statuses}）；{PAUSED.zh * paused}同一命令会继续",
        )
    better = Both("lower", "低") if table.sign == 1 else Both("higher", "高")
    settings, keys = len(answer.ranking), ", ".join(table.settings)
    of = Both(f" of {keys}", f"（{keys}）") if table.settings else Both("", "")
    counts = {ranked.n for ranked in answer.ranking}
    least, most = min(counts, default=0), max(counts, default=0)
    times = Both(f"{most}", f"{most}") if least == most else Both(f"{least} to {most}", f"{least} 至 {most}")
    what = _replicates(table.replicates, most)
    return Both(
        f"{settings} setting{'s' if settings != 1 else ''}{of} x {times} {what}; {table.metric} with the "
        f"weights kept of each run, {better} is better",
        f"{settings} 个设置{of.zh} × {times.zh} {what.zh}；"
        f"比较各次运行所保留权重的 {table.metric}，越{better.zh}越好",
    )


def _replicates(keys: Sequence[str], number: int) -> Both:
    """What repeats a setting, in words."""
    seeds = all(key.startswith("seed.") for key in keys)
    plain = Both("seed", "个种子") if seeds else Both("replicate", "次重复")
    names = ", ".join(keys)
    named = Both(f" ({names})", f"（{names}）") if keys and keys != ("seed.value",) else Both("", "")
    return Both(f"{plain}{'s' if number != 1 else ''}{named}", f"{plain.zh}{named.zh}")


def expected(answer: Answer) -> Both:
    """What the best is worth on new seeds, where it was chosen among others that come near it; else ''."""
    won, nothing = answer.winner, Both("", "")
    if won is None or won.name != answer.ranking[0].setting or not math.isfinite(won.low):
        return nothing  # such as where the one that ranks first has a single run
    if answer.table.sign * (won.fair - won.seen.mean) < (won.high - won.low) / 100:
        return nothing  # it was chosen so surely that luck had no part in it
    places = decimals((won.high - won.low) / 2, won.fair)
    interval = f"{won.fair:.{places}f} [{won.low:.{places}f}, {won.high:.{places}f}]"
    settings = len(answer.ranking)
    return Both(
        f"as the best of {settings} it looks too good, new seeds may give {interval}",
        f"作为 {settings} 个设置中的最佳者，它显得过好；换新种子可能得到 {interval}",
    )


def how(question: Question, comparisons: Sequence[Comparison]) -> Both:
    """How the levels of one question were compared."""
    found = {one.difference.how for one in comparisons if one.difference}
    parts: list[str] = [HOW[word] for word in sorted(found)]
    if question.nuisance:
        keys = ", ".join(question.nuisance)
        parts.append(
            {
                "best": Both(f"each at its best {keys}", f"每个取值都用其最佳的 {keys}"),
                "equal": Both(f"averaged over the {keys} that all were run with", f"对共有的 {keys} 取平均"),
                "averaged": Both(f"averaged over {keys}", f"对 {keys} 取平均"),
            }[question.rest]
        )
    return joined(parts)


def failures(answer: Answer) -> Iterator[Passage]:
    """What failed, and which value its runs share."""
    table = answer.table
    for word in FAILED[::-1]:
        number, of = sum(row.status == word for row in table.rows), len(table.rows)
        if number:
            where = _shared_value(table, word)
            yield (
                word,
                Both(
                    f"{number} of {of} runs{where}; ranked last",
                    f"{of} 次运行中有 {number} 次{where.zh}；排在最后",
                ),
            )
    waiting = [
        Both(f"{count} {word}", f"{count} 次{WAITING[word].zh}")
        for word, count in answer.counts.items()
        if word in WAITING
    ]
    if waiting:
        yield "left out", joined([*waiting])


def _shared_value(table: Table, word: str) -> Both:
    """The value at which runs end so more often than at others, by most; '' if nothing varies."""
    ended_so = [row.status == word for row in table.rows]
    best, text = 0.0, Both("", "")
    for place, key in enumerate(table.settings):
        inside: dict[object, list[bool]] = {}
        for row, so in zip(table.rows, ended_so, strict=True):
            inside.setdefault(row.setting[place], []).append(so)
        for value, found in inside.items():
            outside = len(ended_so) - len(found)
            more = sum(found) / len(found) - (sum(ended_so) - sum(found)) / max(outside, 1)
            if outside and more > best:
                best, at = more, f"{key}={shown(value)}"
                text = Both(
                    f": {sum(found)} of the {len(found)} with {at}",
                    f"：{at} 的 {len(found)} 次中有 {sum(found)} 次",
                )
    return text


def notes(answer: Answer) -> Iterator[Passage]:
    """What the runs themselves note, with those that each note holds for."""
    for note in answer.table.notes:
        yield "note", note


def remarks(answer: Answer) -> Iterator[Passage]:
    """What makes the runs less comparable than they look."""
    table = answer.table
    counts = {ranked.n for ranked in answer.ranking}
    if len(counts) > 1:
        yield (
            "note",
            Both(
                f"the settings have unequal numbers of runs, {min(counts)} to {max(counts)}",
                f"各设置的运行次数不等，{min(counts)} 至 {max(counts)} 次",
            ),
        )
    samples = [[row.value for row in rows if row.ended] for rows in table.cells.values()]
    if skewed([[value for value in sample if value is not None] for sample in samples]):
        yield (
            "note",
            Both(
                "the values are skewed: intervals of means cover less than they say (docs/statistics.md)",
                "数值分布偏斜：均值的区间覆盖率低于所称（docs/statistics.md）",
            ),
        )
    for remark in table.remarks:
        yield "note", remark
    if table.damaged:
        number = len(table.damaged)
        yield (
            "damaged",
            Both(
                f"{number} folder{'s' if table.damaged[1:] else ''}: {table.damaged[0]}",
                f"{number} 个文件夹：{table.damaged[0]}",
            ),
        )


def holds_for(answer: Answer) -> Iterator[Passage]:
    """What all verdicts hold for."""
    if not answer.replicated:
        return
    splits = {row.run.settings.get(SPLIT) for row in answer.table.rows}
    named = Both("", "")
    if splits != {None}:
        at = f"{SPLIT}={min(splits, key=str)}"
        named = Both(f" ({at})", f"（{at}）")
    error, number = _split_error(answer), len(splits)
    split = (
        Both(f"one split of the data{named}{error}", f"数据的一种划分{named.zh}{error.zh}")
        if number == 1
        else Both(f"{number} splits of the data", f"数据的 {number} 种划分")
    )
    confidence = f"{100 * answer.confidence:g} %"
    yield (
        "holds for",
        Both(
            f"{split}; all intervals together with {confidence} confidence",
            f"{split.zh}；全部区间合起来的置信度为 {confidence}",
        ),
    )


def _split_error(answer: Answer) -> Both:
    """What another split of the data might change of an accuracy."""
    best, nothing = answer.ranking[0], Both("", "")
    if not answer.table.metric.endswith("accuracy") or best.estimate is None:
        return nothing
    part = record.measured(answer.table.cells[best.setting][0].run.known).get("val")
    counts = part.get("confusion") if isinstance(part, Mapping) else None
    if not isinstance(counts, list):
        return nothing
    points = f"{100 * split_standard_error(best.estimate.mean, sum(map(sum, counts))):.1f}"
    return Both(f", whose own standard error is {points} points", f"，其自身的标准误差为 {points} 个百分点")


def effects(answer: Answer) -> Iterator[Passage]:
    """Which keys mattered, with the part that is noise."""
    found = answer.effects
    if not found or not (found.value or found.failing):
        return
    deciding = [
        effect
        for effect in found.failing
        if effect.p <= SURE or (math.isnan(effect.p) and effect.share > 0.1)
    ]
    parts = []
    if deciding:
        knobs = _knobs(deciding[0])
        parts = [Both(f"{knobs} decides whether runs fail", f"{knobs.zh} 决定运行是否失败")]
    known = [effect for effect in found.value if effect.share >= NEGLIGIBLE and not effect.p > SURE][:NAMED]
    of = (
        Both("the ranks of the results", "结果名次") if found.scale == "rank" else Both("the results", "结果")
    )
    shares = [
        Both(f"{_knobs(effect)} {share}", f"{_knobs(effect).zh} {share}")
        for effect in known
        for share in [f"{100 * effect.share:.0f} %"]
    ]
    if shares:
        if not math.isnan(found.noise):
            noise = f"{100 * found.noise:.0f} %"
            shares.append(Both(f"noise {noise}", f"噪声 {noise}"))
        listed = joined([*shares])
        parts.append(Both(f"of the variance of {of}: {listed}", f"{of.zh}的方差中：{listed.zh}"))
    yield "mattered", joined([*parts], "; ", "；") or Both("no key surely did", "没有哪个键确定有影响")


def _knobs(effect: Effect) -> Both:
    return joined([*effect.knobs], " with ", " 与 ")


def sources(answer: Answer) -> Iterator[Passage]:
    """Where the variance between runs comes from."""
    if answer.sources:
        found = answer.sources
        shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in found.shares.items())
        few = min(found.levels, key=lambda key: found.levels[key])
        number = found.levels[few]
        known = (
            Both(
                f" ({few} took {number} values, which says little of its own)",
                f"（{few} 只有 {number} 个取值，说明不了它自身的方差）",
            )
            if number < 5
            else Both("", "")
        )
        yield (
            "variance",
            Both(
                f"between the runs of a setting: {shares}{known}",
                f"同一设置的各次运行之间：{shares}{known.zh}",
            ),
        )
