"""All that the page of a sweep shows, as plain data: what terminal and Markdown say, and what is drawn."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweepwise.improvement import limits
from sweepwise.results import passages, run_folder
from sweepwise.results.answer import Answer
from sweepwise.results.comparison import Comparison
from sweepwise.results.critique.divergence import boundary
from sweepwise.results.further_runs import UNREPEATED, homes, program_of, trained_by_command, worth_running
from sweepwise.results.languages import Both, by_language
from sweepwise.results.page import maps, series
from sweepwise.results.page.curves import curves
from sweepwise.results.page.plain import number, numbers, shared
from sweepwise.results.replay.logged import Reader
from sweepwise.results.run_folder import shown
from sweepwise.results.sentences import verdict
from sweepwise.results.statistics.effects import Effect
from sweepwise.results.table import CENSORED, ENDED, FAILED, Row
from sweepwise.store.request import keys as keys_of
from sweepwise.version import __version__

MOST_SAID = 40  # comparisons of one key
MOST_DAMAGED = 10  # folders that are named
MOST_NEXT = 8  # commands
REPEAT = Both(
    "The command of a row says that its run is there; with fresh=true it trains the run anew. python "
    "scripts/reproduce.py FOLDER trains it beside, and says whether it is the same to the bit.",
    "某一行的命令会说明该运行已存在；加上 fresh=true 则重新训练。python scripts/reproduce.py FOLDER "
    "会另行训练一次，并说明结果是否逐位相同。",
)


def content(
    answer: Answer,
    *,
    replay: Mapping[str, Any] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    reader: Reader = run_folder.epochs,
) -> dict[str, Any]:
    """All that the page of a sweep shows, as plain data without NaN.

    Args:
        answer: of the sweep, whose runs may still train.
        replay: what other rules of early stopping would have given, as plain data; None: it was not asked.
        findings: of the critique, as plain data.
        reader: gives the lines of a run's epochs from its folder.
    """
    table = answer.table
    fails = next((finding for finding in findings if finding["kind"] == "divergence"), None)
    drawn = maps.heatmaps(answer, boundary(table) if fails else None)
    bands, left_out = curves(answer, reader)
    return {
        "title": ", ".join(map(os.fspath, table.homes)) or "records",
        "homes": homes(answer),
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sweepwise": __version__,
        "metric": {
            "tag": table.metric,
            "better": "lower" if table.sign == 1 else "higher",
            "percent": limits(table.metric) == (0.0, 1.0),
        },
        "counts": dict(answer.counts),
        "complete": complete(answer),
        "automatic": False,
        "keys": list(table.settings),
        "replicates": list(table.replicates),
        "confidence": answer.confidence,
        "about": by_language(passages.about(answer)),
        "remarks": _remarks(answer),
        "verdicts": [_question(answer, key) for key in answer.questions],
        "ranking": _ranking(answer),
        "expected": by_language(passages.expected(answer)),
        "runs": _runs(answer),
        "effects": _effects(answer),
        "sources": _sources(answer),
        "curves": bands,
        "curves_left_out": by_language(left_out) if left_out else None,
        "rates": series.rates(answer),
        "depth": series.depth(answer),
        "stopping": series.stopping(answer),
        "heatmaps": drawn,
        "parallel": maps.parallel(answer),
        "failures": maps.failing(answer, drawn, fails),
        "cost": _cost(answer),
        "critique": [dict(finding) for finding in findings],
        "replay": dict(replay) if replay else None,
        "repeat": by_language(REPEAT),
        "next": [said for key, said in worth_running(answer) if key == "next"][:MOST_NEXT],
    }


def complete(answer: Answer) -> bool:
    """Whether every run has come to an end of its own, or was ended by a search."""
    return set(answer.counts) <= {*ENDED, *FAILED, CENSORED}


def _remarks(answer: Answer) -> list[dict[str, str]]:
    """What else must be known, in the order of the answer; every damaged folder by name."""
    damaged = [Both(f"damaged: {one}", f"已损坏：{one}") for one in answer.table.damaged[:MOST_DAMAGED]]
    if more := len(answer.table.damaged) - MOST_DAMAGED:
        damaged += [Both(f"damaged: {more} more", f"已损坏：另有 {more} 个")] if more > 0 else []
    said = [
        *passages.effects(answer),
        *passages.sources(answer),
        *passages.failures(answer),
        *passages.notes(answer),
        *(passage for passage in passages.remarks(answer) if passage[0] != "damaged"),
        *(("", one) for one in damaged),
        *passages.holds_for(answer),
        *(passage for passage in worth_running(answer) if passage[0] != "next"),
    ]
    return [by_language(_headed(key, text) if key in HEADS else text) for key, text in said]


HEADS = {
    "mattered": Both("mattered", "起作用的"),
    "variance": Both("variance", "方差"),
    "diverged": Both("diverged", "发散"),
    "failed": Both("failed", "失败"),
    "left out": Both("left out", "未计入"),
    "holds for": Both("holds for", "适用于"),
    "no claim": Both("no claim", "无法下结论"),
}


def _headed(key: str, text: str) -> Both:
    head, said = HEADS[key], by_language(text)
    return Both(f"{head}: {said['en']}", f"{head.zh}：{said['zh']}")


def _question(answer: Answer, key: str) -> dict[str, Any]:
    """The comparisons of a key; those with the best value stand first."""
    found = answer.comparisons[key]
    return {
        "key": key,
        "how": by_language(passages.how(answer.questions[key], found)),
        "items": [_item(answer, one) for one in found[:MOST_SAID]],
        "left_out": max(len(found) - MOST_SAID, 0),
    }


def _item(answer: Answer, one: Comparison) -> dict[str, Any]:
    """A comparison: the numbers say by how much the first is better."""
    flip = -answer.table.sign
    found = one.difference
    ends = sorted((flip * found.low, flip * found.high)) if found else [None, None]
    return {
        "kind": _kind(one),
        "text": by_language(verdict(one)),
        "first": one.better.name,
        "second": one.other.name,
        "mean": number(flip * found.mean if found else None),
        "low": number(ends[0]),
        "high": number(ends[1]),
        "margin": number(one.verdict.margin.value if one.verdict else None),
    }


def _kind(one: Comparison) -> str:
    if one.identical:
        return "identical"
    if one.difference is None:
        return "valueless"
    return one.verdict.kind if one.verdict else "unclaimed"


def _ranking(answer: Answer) -> list[dict[str, Any]]:
    places: dict[Any, list[int]] = {}
    for place, row in enumerate(answer.table.rows):
        places.setdefault(row.setting, []).append(place)
    return [
        {
            "name": ranked.name,
            "setting": list(map(shown, ranked.setting)),
            "mean": number(ranked.estimate.mean if ranked.estimate else None),
            "low": number(ranked.estimate.low if ranked.estimate else None),
            "high": number(ranked.estimate.high if ranked.estimate else None),
            "n": ranked.n,
            "failed": ranked.failed,
            "runs": places[ranked.setting],
        }
        for ranked in answer.ranking
    ]


def _runs(answer: Answer) -> dict[str, Any]:
    """The runs, a column each; folders and commands by the parts that they share."""
    table = answer.table
    place_of = {ranked.setting: place for place, ranked in enumerate(answer.ranking)}
    home = _above(table.homes)
    return {
        "ranking": [place_of[row.setting] for row in table.rows],
        "replicate": [", ".join(map(shown, row.replicate)) for row in table.rows],
        "status": [row.status for row in table.rows],
        "value": numbers(row.value for row in table.rows),
        "best_epoch": [row.best_epoch if row.best_epoch >= 0 else None for row in table.rows],
        "epochs": [row.epochs for row in table.rows],
        "seconds": numbers((row.seconds for row in table.rows), 4),
        "folder": shared([_relative(row.folder, home) for row in table.rows], ","),
        "command": shared([command(row) for row in table.rows], " "),
    }


def command(row: Row) -> str:
    """The one line that asks for a run; '' if it was not made by one."""
    overrides = row.run.known.get("overrides")
    if not isinstance(overrides, list) or not trained_by_command(row.run):
        return ""
    given = [str(text) for text in overrides]
    kept = [text for key, text in zip(keys_of(given), given, strict=True) if key not in UNREPEATED]
    return shlex.join([*program_of(row.run), *kept])


def _above(homes: Sequence[Path]) -> Path | None:
    """The folder that names of runs are relative to: the sweep's, where there is one."""
    return homes[0] if len(homes) == 1 else None


def _relative(folder: Path, home: Path | None) -> str:
    return os.fspath(folder.relative_to(home)) if home and folder.is_relative_to(home) else os.fspath(folder)


def _effects(answer: Answer) -> dict[str, Any] | None:
    found = answer.effects
    if found is None or not (found.value or found.failing):
        return None

    def listed(effects: Sequence[Effect]) -> list[dict[str, Any]]:
        return [
            {
                "knobs": list(effect.knobs),
                "share": number(effect.share),
                "low": None,
                "high": None,
                "p": number(effect.p),
            }
            for effect in effects
        ]

    return {
        "scale": found.scale,
        "method": found.method,
        "noise": number(found.noise),
        "value": listed(found.value),
        "failing": listed(found.failing),
    }


def _sources(answer: Answer) -> dict[str, Any] | None:
    found = answer.sources
    if found is None:
        return None
    return {
        "shares": {key: number(share) for key, share in found.shares.items()},
        "levels": dict(found.levels),
        "not_varied": list(found.not_varied),
    }


def _cost(answer: Answer) -> dict[str, Any]:
    """What the sweep took: seconds of all runs together, as if one after the other."""
    table = answer.table
    return {
        "seconds": number(sum(row.seconds for row in table.rows)),
        "runs": len(table.rows),
        "epochs": sum(row.epochs for row in table.rows),
        "by_setting": [
            {"ranking": place, "seconds": number(sum(row.seconds for row in table.cells[ranked.setting]), 4)}
            for place, ranked in enumerate(answer.ranking)
        ],
    }
