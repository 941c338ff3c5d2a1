"""Cancels all jobs of a sweep. Runs that have begun keep their last checkpoint.

  python scripts/cancel.py SWEEP         SWEEP is an experiment's folder, such as outputs/main

The command that started the sweep resumes what was cancelled.

Exit codes: 0, also if no job was left, 1 if the cluster refuses, 2 bad usage.
"""

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.sweep.cluster.jobs import CANCEL, STATES
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.submission import adopt
from sweepwise.system.console import wrapped
from sweepwise.tools import scripting


def main(arguments: list[str]) -> None:
    """Cancels the live jobs of a sweep."""
    home = scripting.sweep(arguments)
    ledger = Ledger(home)
    if not ledger.folder.is_dir():
        raise UsageError(
            [f"{home}: must be the folder of a sweep that was submitted to a cluster, but no job is known"]
        )
    with ledger.held():
        adopt(ledger)
        submissions = ledger.submissions()
        ended = []
        for cluster in {submission.cluster for submission in submissions}:
            known = [
                job for submission in submissions if submission.cluster == cluster for job in submission.jobs
            ]
            live = [job for job, state in STATES[cluster](known).items() if state.live]
            if live:
                CANCEL[cluster](live)
            ended += live
    print(wrapped("cancelled", ", ".join(ended) or "nothing: it has no job that is queued or running"))


if __name__ == "__main__":
    cli.script(main, __doc__)
