"""Writes docs/options.md: every group, its options and their keys, as --help prints them.

    python scripts/write_options.py

The text comes from the yaml files of conf/ and from the README.md of each group's folder. Change it there.
"""

from pathlib import Path

from sweepwise import cli
from sweepwise.cli.help import markdown
from sweepwise.cli.options import of_folder
from sweepwise.errors import UsageError

ROOT = Path(__file__).parents[1]


def main(arguments: list[str]) -> None:
    """Writes the page."""
    if arguments:
        raise UsageError([f"{argument}: this script takes no arguments" for argument in arguments])
    page = ROOT / "docs" / "options.md"
    page.write_text(markdown(of_folder(ROOT / "conf")))
    print(page.relative_to(ROOT))


if __name__ == "__main__":
    cli.script(main, __doc__)
