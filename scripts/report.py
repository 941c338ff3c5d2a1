"""Writes the page of a sweep: one HTML file that opens offline and can be mailed.

  python scripts/report.py outputs/main                    outputs/main/report.html
  python scripts/report.py outputs/main format=html,md,csv  the same as Markdown, and as tables
  python scripts/report.py outputs/main output=page.html language=zh metric=val/accuracy

It reads run folders alone, also while they are written, of one experiment or of several (FOLDER FOLDER ...).
Which runs count, and as what, is said as to scripts/answer.py: KEY=VALUE, by=, replicates=, metric=.

  format=     of html, md, csv, with commas. csv is a row a run, and in report.settings.csv a row a setting
  output=     the file; it lies in the first folder otherwise. With several formats its ending is changed
  language=   en or zh, in which the page opens

The end of a sweep writes the page of the first line, and replaces only such a one: a page that was made
with other arguments stays.

Exit codes: 0, 1 if it cannot be written, 2 bad usage.
"""

from pathlib import Path
from typing import cast

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.results import answer, export
from sweepwise.results.languages import LANGUAGES, Language
from sweepwise.results.page import files
from sweepwise.system.console import print_line
from sweepwise.tools import loaded


def main(arguments: list[str]) -> None:
    """Writes the page in each format that is asked for."""
    homes, own, others = loaded.split(arguments, format="", output="", language="en")
    if own["language"] not in LANGUAGES:
        raise UsageError([f"language={own['language']}: must be one of {', '.join(LANGUAGES)}"])
    paths = _paths(Path(homes[0]), own["output"], own["format"])
    said = answer.answer(loaded.table(homes, own, others))
    usual = len(homes) == 1 and not others and not any(own[key] for key in (*loaded.OWN, "output"))
    found = files.composed(said) | {"automatic": usual and own["language"] == "en"}
    for path in paths:
        for written in files.write(said, found, path, cast("Language", own["language"])):
            print_line("page" if written.suffix == ".html" else "written", str(written))


def _paths(home: Path, output: str, form: str) -> list[Path]:
    """The files to write, one a format.

    Raises:
        UsageError: a format is none, or there is no folder to write to.
    """
    ending = Path(output).suffix.removeprefix(".")
    forms = files.formats(form) if form else [ending] if output else ["html"]
    path = Path(output) if output else home / f"{files.NAME}.html"
    if not home.is_dir():
        raise UsageError([f"{home}: must be an experiment's folder, such as outputs/main, but is missing"])
    possible = forms if form else files.FORMATS
    if output and ending not in possible:
        raise UsageError([f"output={output}: must end in {' or '.join(f'.{word}' for word in possible)}"])
    export.check(path, [f".{word}" for word in files.FORMATS])
    return [path.with_suffix(f".{word}") for word in forms]


if __name__ == "__main__":
    cli.script(main, __doc__)
