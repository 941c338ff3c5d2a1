"""The page's content as Markdown, with tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweepwise.results.languages import Language
from sweepwise.results.markup import code, escaped, one_line
from sweepwise.results.sentences import decimals

MOST_ROWS = 100  # of a table
HEADINGS = {
    "better": ("Which is better", "孰优孰劣"),
    "ranking": ("Settings, the best first", "设置，最佳在前"),
    "setting": ("setting", "设置"),
    "runs": ("runs", "运行"),
    "failed": ("failed", "失败"),
    "mattered": ("What mattered", "什么起作用"),
    "key": ("key", "键"),
    "share": ("share of the variance", "方差占比"),
    "fails": ("share in failing", "失败中的占比"),
    "noise": ("noise", "噪声"),
    "failures": ("What failed", "什么失败了"),
    "value": ("value", "取值"),
    "of": ("ended badly", "结局不良"),
    "reason": ("reason", "原因"),
    "example": ("example", "示例"),
    "stopping": ("When runs ended", "运行何时结束"),
    "stopped": ("epochs trained", "训练轮数"),
    "best": ("best epochs", "最佳轮"),
    "early": ("stopped early", "提前停止"),
    "critique": ("Critique of the search space", "对搜索空间的评价"),
    "replay": ("What other patience would have given", "换用其他耐心值的结果"),
    "saved": ("epochs saved", "节省的轮数"),
    "lost": ("value lost", "损失的数值"),
    "censored": ("hidden by censoring", "被删失掩盖"),
    "halving": ("Successive halving", "逐次减半"),
    "kept": ("kept the winner", "保住最佳"),
    "cost": ("Cost", "花费"),
    "repeat": ("How to repeat a run", "如何重复一次运行"),
    "next": ("What to run next", "接下来运行什么"),
    "more": ("and {} more", "另有 {} 行"),
    "made": ("made {} by sweepwise {}", "{} 由 sweepwise {} 生成"),
    "spent": ("{} h of training in {} runs, {} epochs", "{} 小时训练，{} 次运行，{} 轮"),
}


def markdown(content: Mapping[str, Any], language: Language = "en") -> str:
    """The content of a page as Markdown.

    Args:
        content: as `content.content` gives it.
        language: of the sentences; names, numbers and commands are the same in each.
    """
    return "\n".join(_Text(content, language).lines()) + "\n"


class _Text:
    """The lines of a page in one language."""

    def __init__(self, content: Mapping[str, Any], language: Language) -> None:
        self._content = content
        self._language = language

    def lines(self) -> Iterator[str]:
        found = self._content
        yield f"# {escaped(one_line(found['title']))}"
        yield ""
        yield f"{self._said(found['about'])}."
        yield ""
        yield from (f"- {self._said(remark)}" for remark in found["remarks"])
        for section in (self._verdicts, self._ranking, self._effects, self._failures, self._stopping):
            yield from section()
        for section in (self._critique, self._replay, self._cost, self._repeat):
            yield from section()
        yield ""
        yield self._heading("made").format(found["made"], found["sweepwise"])

    def _heading(self, key: str) -> str:
        return HEADINGS[key][self._language == "zh"]

    def _said(self, text: Mapping[str, str]) -> str:
        return escaped(" ".join(text[self._language].split()))

    def _section(self, key: str) -> Iterator[str]:
        yield from ("", f"## {self._heading(key)}", "")

    def _table(self, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
        """A table; of a long one its beginning."""
        yield f"| {' | '.join(heads)} |"
        yield f"|{' --- |' * len(heads)}"
        for row in rows[:MOST_ROWS]:
            yield f"| {' | '.join(escaped(' '.join(str(cell).split())) for cell in row)} |"
        if more := len(rows) - MOST_ROWS if len(rows) > MOST_ROWS else 0:
            yield ""
            yield self._heading("more").format(f"{more:,}")

    def _verdicts(self) -> Iterator[str]:
        if not self._content["verdicts"]:
            return
        yield from self._section("better")
        for question in self._content["verdicts"]:
            yield f"- **{escaped(one_line(question['key']))}** {self._said(question['how'])}".rstrip()
            yield from (f"  - {self._said(item['text'])}" for item in question["items"])
            if question["left_out"]:
                yield f"  - {self._heading('more').format(question['left_out'])}"

    def _ranking(self) -> Iterator[str]:
        found = self._content
        yield from self._section("ranking")
        heads = ["", self._heading("setting"), escaped(found["metric"]["tag"])]
        rows = [
            [place, ranked["name"], _interval(ranked), ranked["n"], ranked["failed"]]
            for place, ranked in enumerate(found["ranking"], 1)
        ]
        yield from self._table([*heads, self._heading("runs"), self._heading("failed")], rows)
        if found["expected"]["en"]:
            yield ""
            yield f"{self._said(found['expected'])}."

    def _effects(self) -> Iterator[str]:
        found = self._content["effects"]
        if not found:
            return
        yield from self._section("mattered")
        failing = {tuple(effect["knobs"]): effect["share"] for effect in found["failing"]}
        rows = [
            [
                " x ".join(effect["knobs"]),
                _percent(effect["share"]),
                _percent(failing.get(tuple(effect["knobs"]))),
            ]
            for effect in found["value"]
        ]
        rows.append([self._heading("noise"), _percent(found["noise"]), ""])
        heads = [self._heading(key) for key in ("key", "share", "fails")]
        width = 3 if failing else 2
        yield from self._table(heads[:width], [row[:width] for row in rows])

    def _failures(self) -> Iterator[str]:
        found = self._content["failures"]
        if not found["diverged"] + found["failed"]:
            return
        yield from self._section("failures")
        if found["boundary"]:
            said = found["boundary"]
            yield from (f"{self._said(said['text'])} ({self._said(said['evidence'])}).", "")
        if found["by"]:
            rows = [[one["key"], one["value"], f"{one['ended_badly']} / {one['n']}"] for one in found["by"]]
            yield from self._table([self._heading(key) for key in ("key", "value", "of")], rows)
            yield ""
        rows = [[one["reason"], one["n"], one["example"]] for one in found["messages"]]
        yield from self._table([self._heading(key) for key in ("reason", "runs", "example")], rows)

    def _stopping(self) -> Iterator[str]:
        found, ranking = self._content["stopping"], self._content["ranking"]
        if not found:
            return
        yield from self._section("stopping")
        rows = [
            [
                ranking[one["ranking"]]["name"],
                _listed(one["stopped"]),
                _listed(one["best"]),
                f"{sum(one['early'])} / {len(one['early'])}",
            ]
            for one in found
        ]
        yield from self._table([self._heading(key) for key in ("setting", "stopped", "best", "early")], rows)

    def _critique(self) -> Iterator[str]:
        if not self._content["critique"]:
            return
        yield from self._section("critique")
        for finding in self._content["critique"]:
            yield f"- {self._said(finding['text'])} ({self._said(finding['evidence'])})"
            if finding.get("command"):
                yield f"  - {code(finding['command'])}"

    def _replay(self) -> Iterator[str]:
        found = self._content["replay"]
        if not found:
            return
        yield from self._section("replay")
        yield f"{self._said(found['text'])}"
        yield ""
        rows = [
            [
                one["metric"],
                one["patience"],
                one["min_delta"],
                f"{_percent(one['saved_share'])} {_range(one['saved_low'], one['saved_high'], _percent)}",
                f"{_short(one['lost'])} {_range(one['lost_low'], one['lost_high'], _short)}",
                f"{one['censored']} / {one['n']}",
            ]
            for one in found["rows"]
        ]
        heads = ["metric", "patience", "min_delta", *map(self._heading, ("saved", "lost", "censored"))]
        yield from self._table(heads, rows)
        if found.get("halving"):
            yield from ("", f"### {self._heading('halving')}", "")
            rows = [
                [
                    _listed(one["rungs"]),
                    one["eta"],
                    _percent(one["kept_winner"]),
                    one["runs"],
                    _percent(one["saved_share"]),
                ]
                for one in found["halving"]
            ]
            heads = ["rungs", "eta", *map(self._heading, ("kept", "runs", "saved"))]
            yield from self._table(heads, rows)

    def _cost(self) -> Iterator[str]:
        found = self._content["cost"]
        yield from self._section("cost")
        hours = f"{(found['seconds'] or 0) / 3600:.2g}"
        yield self._heading("spent").format(hours, f"{found['runs']:,}", f"{found['epochs']:,}")

    def _repeat(self) -> Iterator[str]:
        yield from self._section("repeat")
        yield self._said(self._content["repeat"])
        runs = self._content["runs"]
        best = self._content["ranking"][0]["runs"][:1] if self._content["ranking"] else []
        for place in best:
            words = runs["command"]["words"]
            line = runs["command"]["separator"].join(words[at] for at in runs["command"]["rows"][place])
            yield from ("", f"    {one_line(line)}") if line else ()
        if self._content["next"]:
            yield from self._section("next")
            yield from (f"    {one_line(line)}" for line in self._content["next"])


def _interval(ranked: Mapping[str, Any]) -> str:
    """A mean with its interval, to two digits of the interval's half width, as the terminal has it."""
    mean, low, high = (ranked[key] for key in ("mean", "low", "high"))
    if mean is None:
        return "-"
    if low is None or high is None:
        return f"{mean:.4g}"
    places = decimals((high - low) / 2, mean)
    return f"{mean:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _short(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"


def _range(low: Any, high: Any, form: Any) -> str:
    return "" if low is None or high is None else f"[{form(low)}, {form(high)}]"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
