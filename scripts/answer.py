"""Answers which settings of a sweep are better, and how sure that is.

  python scripts/answer.py outputs/main                         every key that varies
  python scripts/answer.py outputs/main compare=scheduler       one question, which it is surer of
  python scripts/answer.py outputs/main compare=init baseline=default margin=0.01
  python scripts/answer.py outputs/main table=runs.csv curves=curves.parquet

It reads run folders alone, also while they are written, of one experiment or of several (FOLDER FOLDER ...).
Settings are what varies between the runs; seeds and data.split_seed repeat a setting. by=KEY,KEY or
replicates=KEY,KEY overrule that. KEY=VALUE takes only runs with that value, such as data=digits. At the end
stand the faults of the search space, each with a command that puts it right (docs/critique.md).

  metric=     what is compared, such as val/accuracy; else the metric that chose the weights that were kept
  compare=    the key that the question is about; 'setting' compares whole settings
  rest=       best: each value at the best other settings for it; equal: averaged over other settings that
              all values were run with; averaged: over all of them
  baseline=   the value that all others are compared with, instead of each with each
  margin=     the largest difference that does not matter, in the metric's unit
  table=      writes a row a run as .csv or .parquet; curves= every metric of every epoch
  markdown=   writes the answer as .md
"""

from pathlib import Path
from typing import cast

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.results import answer, export, words
from sweepwise.results.critique import critique, passages
from sweepwise.results.question import Rest
from sweepwise.system.atomic import write_atomic
from sweepwise.tools import loaded

OWN = ("compare", "rest", "baseline", "margin", "table", "curves", "markdown")


def main(arguments: list[str]) -> None:
    """Prints the answer and writes what was asked for."""
    homes, own, others = loaded.split(arguments, **dict.fromkeys(OWN, ""))
    for key, forms in {"table": export.FORMS, "curves": export.FORMS, "markdown": (".md",)}.items():
        if own[key]:
            export.check(Path(own[key]), forms)
    found = loaded.table(homes, own, others)
    said = answer.answer(
        found,
        own["compare"] or None,
        rest=cast(Rest, own["rest"] or "best"),  # `ask` refuses any other
        baseline=own["baseline"] or None,
        margin=_number("margin", own["margin"]),
    )
    for key in ("table", "curves"):
        if own[key]:
            found.write(own[key], curves=key == "curves")
    findings = passages(critique(said))
    if own["markdown"]:
        write_atomic(Path(own["markdown"]), words.markdown(said, findings).encode())
    print(words.text([*words.full(said), *findings]))


def _number(key: str, text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise UsageError([f"{key}={text}: must be a number"]) from None


if __name__ == "__main__":
    cli.script(main, __doc__)
