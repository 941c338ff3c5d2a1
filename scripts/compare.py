"""Says what differs between two runs, and how their results and curves do.

  python scripts/compare.py RUN RUN          the folders of two runs

Compared are config, seeds, code, data, versions and machine, as their folders
tell; then the results, and each metric by epoch. Where nothing differs but the
results do, something is not repeatable: scripts/verify.py RUN looks for it.

Exit codes: 0, 2 bad usage.
"""

from pathlib import Path

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.results import two_runs
from sweepwise.system.console import wrapped


def main(arguments: list[str]) -> None:
    """Prints the differences."""
    if len(arguments) != 2:
        raise UsageError(["RUN RUN: must be given, the folders of two runs; --help shows an example"])
    one, other = two_runs.read(*map(Path, arguments))
    for key, text in [*two_runs.differing(one, other), *two_runs.results(one, other)]:
        print(wrapped(f"{key} ", text))


if __name__ == "__main__":
    cli.script(main, __doc__)
