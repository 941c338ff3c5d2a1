"""Shows the status of each run of a sweep, wherever it is trained.

  python scripts/status.py SWEEP         SWEEP is an experiment's folder, such as outputs/main

It prints a line for each run: its status, its job and node, its best value.
Then it prints each failed run with the last lines of its output. It works on
any machine that has the folder and the cluster's commands. Slurm is asked once
for all jobs: first its controller, then its accounting, if there is one, for
jobs that the controller has forgotten.

Exit codes: 0, 1 if a run has failed, 2 bad usage.
"""

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.sweep.cluster import overview
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.overview import Row
from sweepwise.sweep.cluster.submission import adopt_if_possible
from sweepwise.sweep.summary import STATUS_LETTERS, best, described, line
from sweepwise.system.console import wrapped
from sweepwise.tools import scripting


def main(arguments: list[str]) -> int:
    """Prints the status of a sweep's runs."""
    home = scripting.sweep(arguments)
    adopt_if_possible(Ledger(home))
    rows = overview.look(home)
    if not rows:
        raise UsageError(
            [f"{home}: must be an experiment's folder, but it holds no run and none was submitted from it"]
        )
    print(wrapped("sweep", described(home, [row.status for row in rows])))
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
