"""Writes the page of a sweep: as HTML, as Markdown and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.results import export, loading, run_folder
from sweepwise.results.answer import Answer
from sweepwise.results.answer import answer as answered
from sweepwise.results.further_runs import homes
from sweepwise.results.languages import LANGUAGES, Both, Language
from sweepwise.results.page.content import complete, content
from sweepwise.results.page.markdown import markdown
from sweepwise.system.atomic import write_atomic

NAME = "report"  # of the files, in the sweep's folder
FORMATS = ("html", "md", "csv")
KEPT = 1000  # runs whose curves are kept in memory, as three read them
FEW = 4  # runs of which no page is written by itself
MANY = 1000  # runs beyond which none is, as it would take more than two seconds
MANY_EPOCHS = 100_000  # of all runs together, likewise


def report(answer: Answer, path: Path | str, language: Language = "en") -> list[Path]:
    """Writes the page of a sweep, also of results from anywhere else.

    Args:
        answer: of `sweepwise.answer`.
        path: ends in .html, .md or .csv; as .csv it has a row a run, and a row a setting beside it.
        language: 'en' or 'zh', in which the page opens.

    Returns:
        The files.

    Raises:
        UsageError: the path ends in something else, or its folder is missing; there is no such language.
        OSError: it cannot be written.

    Example:
        >>> from sweepwise import answer, from_records
        >>> results = from_records([{"init": "zeros", "seed": 0, "loss": 0.5}], "loss")
        >>> report(answer(results), "page.pdf")
        Traceback (most recent call last):
        sweepwise.errors.UsageError: page.pdf: must end in .html or .md or .csv
    """
    if language not in LANGUAGES:
        raise UsageError([f"language={language}: must be one of {', '.join(LANGUAGES)}"])
    export.check(Path(path), [f".{form}" for form in FORMATS])
    return write(answer, composed(answer), Path(path), language)


def composed(answer: Answer) -> dict[str, Any]:
    """The content of the page, with replay and critique, which read the curves of all runs."""
    from sweepwise.results.critique import as_content, critique
    from sweepwise.results.replay.content import content as replayed

    reader = lru_cache(None)(run_folder.epochs) if len(answer.table.rows) <= KEPT else run_folder.epochs
    findings = critique(answer, curves=lambda row: reader(row.folder))
    return content(
        answer, replay=replayed(answer.table, reader), findings=as_content(findings), reader=reader
    )


def write(answer: Answer, found: Mapping[str, Any], path: Path, language: Language) -> list[Path]:
    """Writes a page, or what stands in it, in the format that a path ends in.

    Args:
        answer: of the sweep, whose numbers the tables have in full.
        found: its content.
        path: ends in one of `FORMATS`. As .csv it has a row a run, and a row a setting beside it.
        language: of the sentences.

    Returns:
        The files.

    Raises:
        UsageError: the path ends in none of them, or its folder is missing.
        OSError: it cannot be written.
    """
    export.check(path, [f".{form}" for form in FORMATS])
    if path.suffix == ".csv":
        settings = path.with_suffix(".settings.csv")
        answer.table.write(path)
        export.write(settings, settings_table(answer))
        return [path, settings]
    if path.suffix == ".md":
        text = markdown(found, language)
    else:
        from sweepwise.results.page.render import html  # jinja2

        text = html(found, language)
    write_atomic(path, text.encode("utf-8", "backslashreplace"))  # of a lone surrogate JSON reads the same
    return [path]


def beside(answer: Answer) -> Path | None:
    """Writes the page of a sweep that has ended into its folder, where that has more than a few runs.

    The page is of all runs of the folder, of earlier sweeps too, as scripts/report.py makes it without
    arguments. One that was made with others stays.

    Returns:
        The file; None where the sweep has not ended, or there is nothing to show.

    Raises:
        UsageError: the folder has too many runs for a page in passing, or a page made with other arguments.
        OSError: it cannot be written.
    """
    if len(answer.table.homes) != 1 or not complete(answer):
        return None
    home = answer.table.homes[0]
    path = home / f"{NAME}.html"
    there = sum(1 for _ in run_folder.folders(home))
    if there <= FEW:
        return None
    command = f"python scripts/report.py {homes(answer)}"
    if path.exists() and not is_automatic(path):
        raise UsageError([f"{path} was made with other arguments, and stays; {command} replaces it"])
    if there > MANY:
        raise UsageError([f"{home} has {there:,} runs, and more than {MANY:,} take a while; {command}"])
    whole = _whole(answer, there)
    epochs = sum(row.epochs for row in whole.table.rows)
    if epochs > MANY_EPOCHS:
        raise UsageError(
            [f"{home} has {epochs:,} epochs, and more than {MANY_EPOCHS:,} take a while; {command}"]
        )
    return write(whole, composed(whole) | {"automatic": True}, path, "en")[0]


def _whole(answer: Answer, there: int) -> Answer:
    """The answer of all runs of a folder; where they cannot be compared the one given, which says so."""
    table = answer.table
    if there == len(table.rows) + len(table.damaged):
        return answer
    try:
        return answered(loading.load(table.homes[0]), thorough=False)
    except UsageError as error:
        shown = len(table.rows)
        remark = Both(
            f"{shown} of {there} runs of the folder: all of them cannot be compared ({error})",
            f"文件夹的 {there} 次运行中的 {shown} 次：全部运行无法一同比较（{error}）",
        )
        return replace(answer, table=replace(table, remarks=(remark, *table.remarks)))


def is_automatic(path: Path) -> bool:
    """Whether a page is one that the end of a sweep may replace."""
    from sweepwise.results.page.render import AUTOMATIC

    with path.open("rb") as file:
        return AUTOMATIC.encode() in file.read(4096)


def settings_table(answer: Answer) -> list[dict[str, Any]]:
    """The ranking, a row a setting, with all digits."""
    table = answer.table
    return [
        {
            "rank": rank,
            **dict(zip(table.settings, ranked.setting, strict=True)),
            f"mean {table.metric}": ranked.estimate.mean if ranked.estimate else None,
            "low": ranked.estimate.low if ranked.estimate and ranked.estimate.n > 1 else None,
            "high": ranked.estimate.high if ranked.estimate and ranked.estimate.n > 1 else None,
            "runs": ranked.n,
            "failed": ranked.failed,
        }
        for rank, ranked in enumerate(answer.ranking, 1)
    ]


def formats(text: str) -> list[str]:
    """The formats that a text with commas names.

    Raises:
        UsageError: one of them is none.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in FORMATS:
            way = "; a browser prints the page as PDF" if word == "pdf" else ""
            raise UsageError([f"format={text}: must be of {', '.join(FORMATS)}{way}"])
    return list(dict.fromkeys(words))
