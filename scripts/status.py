"""Shows how the runs of a sweep stand, wherever they were sent.

  python scripts/status.py SWEEP         SWEEP is an experiment's folder, such as outputs/main

A line a run: its status, its job and node, how far it is. Then each failed run
with what it has printed at last. Any machine that sees the folder and the
cluster can ask; Slurm is asked once for all jobs, its controller first and its
accounting, if there is one, for those that the controller has forgotten.

Exit codes: 0, 1 if a run has failed, 2 bad usage.
"""

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.sweep.cluster import overview
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.overview import Row
from sweepwise.sweep.cluster.submission import adopted
from sweepwise.sweep.summary import STATUS_LETTERS, best, line, told_of
from sweepwise.system.console import wrapped
from sweepwise.tools import scripting


def main(arguments: list[str]) -> int:
    """Prints the state of a sweep."""
    home = scripting.sweep(arguments)
    adopted(Ledger(home))
    rows = overview.look(home)
    if not rows:
        raise UsageError(
            [f"{home}: must be an experiment's folder, but no run lies in it and none was sent away"]
        )
    print(wrapped("sweep", told_of(home, [row.status for row in rows])))
    for row in rows:
        print(_line(row))
    overview.tell_failures(rows)
    return 1 if any(row.status == "failed" for row in rows) else 0


def _line(row: Row) -> str:
    waits = row.state.reason if row.state.waits else ""
    return line(
        f"{row.status:<{STATUS_LETTERS}}",
        row.name,
        "  ".join(filter(None, [row.job, row.state.node, waits, best(row.known)])),
    )


if __name__ == "__main__":
    cli.script(main, __doc__)
