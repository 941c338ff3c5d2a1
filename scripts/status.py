"""Shows the status of each run of a sweep, wherever it is trained.

  python scripts/status.py SWEEP         SWEEP is an experiment's folder, such as outputs/main

It prints a line for each run: its status, its job and node, how far it has
come or its best value. In a sweep of more than 20 runs those that stand alike
share a line; each=true prints all. Then it prints what the runs note of their
settings, failed runs with the last lines of their output, and, once no run is
left to train, what they say together. It works on any machine that has the
folder and the cluster's commands. Slurm is asked once for all jobs: first its
controller, then its accounting, if there is one, for jobs that the controller
has forgotten.

Exit codes: 0, 1 if a run has failed or has a damaged record, 2 bad usage.
"""

from pathlib import Path

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.results.table import Table
from sweepwise.sweep import closing
from sweepwise.sweep.cluster import listing, overview
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.overview import DAMAGED
from sweepwise.sweep.cluster.submission import adopt_if_possible
from sweepwise.sweep.summary import answer_of, described, tell_tensorboard
from sweepwise.system.console import wrapped
from sweepwise.tools import scripting


def main(arguments: list[str]) -> int:
    """Prints the status of a sweep's runs."""
    own = [word for word in arguments if word.startswith("each=")]
    home = scripting.sweep([word for word in arguments if word not in own])
    if set(own) - {"each=true", "each=false"}:
        raise UsageError([f"{own[0]}: must be true or false; true prints a line for each run"])
    adopt_if_possible(Ledger(home))
    rows = listing.with_announced(home, overview.look(home))
    if not rows:
        raise UsageError(
            [f"{home}: must be an experiment's folder, but it holds no run and none was submitted from it"]
        )
    print(wrapped("sweep", described(home, [row.status for row in rows])))
    for line in listing.lines(home, rows, each="each=true" in own):
        print(line)
    answered = len(rows) > 1 and not any(row.live for row in rows)
    for note in [] if answered else listing.noted(rows):
        print(wrapped("note", note))
    overview.tell_failures(rows)
    if answered:
        closing.tell([home], None, lambda: said(home))
    return 1 if any(row.status in ("failed", DAMAGED) for row in rows) else 0


def said(home: Path) -> Table | None:
    """Prints what the runs say together, and completes what TensorBoard shows; see `closing.tell`."""
    runs = answer_of([home])  # held until all has been said
    return runs if tell_tensorboard([home]) else None


if __name__ == "__main__":
    cli.script(main, __doc__)
