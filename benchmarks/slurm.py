"""Times what a cluster adds to runs: to submit, from sbatch to the first step, and the launcher's own work.

    tests/slurm/cluster run python benchmarks/slurm.py          on a throw-away cluster; as root
    python benchmarks/slurm.py hydra.launcher.partition=NAME    on one's own, from a login node

Three numbers, each the median of a few rounds:

    submit 1,000       the whole command for 1,000 held runs, as jobs of their own and packed, and per run
    sbatch to step     of one job: from the launcher's return to the first line of the run's log, and of this
                       what passes before the job's process starts, which is the cluster's
    here to step       the same run by train.py on this machine: start to the first line of its log
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from sweepwise.sweep.cluster.ledger import Ledger

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
RUN = ["data=blobs", "early_stop=none", "trainer.max_epochs=1", "monitor.scalars_every=1"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.array_parallelism=1000"]
HELD = "hydra.launcher.additional_parameters={hold:true}"
ROUNDS = 5


def launched(folder: Path, *overrides: str) -> float:
    """Seconds of a whole command."""
    began = time.perf_counter()
    command = [sys.executable, str(TRAIN), *RUN, f"output_dir={folder}", *overrides]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def first_line(folder: Path) -> float:
    """When the first line of a run's log was there."""
    while not any(path.stat().st_size for path in folder.glob("main/*/metrics.jsonl")):
        time.sleep(0.005)
    return time.time()


def started(folder: Path) -> float:
    """When the first file of a job's was there: what srun makes for its output."""
    (submission,) = Ledger(folder / "main").submissions()
    return min(path.stat().st_ctime for path in Ledger(folder / "main").home_of(submission).glob("*_log.out"))


def submitting(scratch: Path, more: Sequence[str], runs: int) -> None:
    for name, packed in (("as 1,000 jobs", 1), ("as 32 jobs", 32)):
        times = []
        for number in range(3):
            folder = scratch / f"many-{packed}-{number}"
            times.append(
                launched(
                    folder,
                    "-m",
                    f"seed.value=range({runs})",
                    *SLURM,
                    HELD,
                    *more,
                    f"hydra.launcher.runs_per_job={packed}",
                )
            )
            cancel = TRAIN.parent / "scripts" / "cancel.py"
            subprocess.run(
                [sys.executable, str(cancel), str(folder / "main")], check=True, capture_output=True
            )
        print(f"submit {runs:,} {name}: {median(times):.2f} s, {median(times) / runs * 1e3:.1f} ms a run")


def main() -> None:
    more = sys.argv[1:]
    scratch = Path(tempfile.mkdtemp(prefix="sweepwise-", dir=Path.cwd()))
    try:
        submitting(scratch, more, 1000)
        waited, starting, alone = [], [], []
        for number in range(ROUNDS):
            folder = scratch / f"one-{number}"
            launched(folder, "-m", "seed.value=0", *SLURM, *more)
            returned = time.time()
            seen = first_line(folder)
            waited.append(seen - returned)
            starting.append(seen - started(folder))
            here, began = scratch / f"here-{number}", time.time()
            with subprocess.Popen(
                [sys.executable, str(TRAIN), *RUN, f"output_dir={here}"], stdout=subprocess.DEVNULL
            ):
                alone.append(first_line(here) - began)
        print(f"sbatch to step: {median(waited):.2f} s, of it {median(starting):.2f} s from the job's start")
        print(f"here to step: {median(alone):.2f} s")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
