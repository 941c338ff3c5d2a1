"""Times a whole sweep, from the command to its end, beside what users do today.

    pip install -e ".[benchmark]"
    python benchmarks/sweep.py                      about 15 minutes
    python benchmarks/sweep.py --rounds 5 --contenders ours,ours_apart,plain_joblib

32 runs of w1 (4 initialisations x 4 schedules x 2 seeds, 20 epochs), scalars logged, one thread a process:

    ours            python train.py -m ...: runs are trained together as one program, by a process a core
    ours_apart      the same with hydra.launcher.fuse=false: a process a run
    plain_basic     a plain loop under Hydra's basic launcher: one after the other in one process
    plain_joblib    the same under hydra-joblib-launcher, a process a core
    lightning_basic Lightning's trainer under Hydra's basic launcher
    lightning_each  Lightning's trainer in a process for each run, as many at a time as there are cores
"""

import argparse
import os
import shlex
import sys
from itertools import product
from pathlib import Path

from interleave import SCRATCH, command, interleave, one_thread, table

HERE = Path(__file__).resolve().parent
SWEPT = ["init=xavier,kaiming,lecun,orthogonal", "scheduler=constant,cosine,step,linear"]
OURS = [
    sys.executable,
    str(HERE.parent / "train.py"),
    "-m",
    *SWEPT,
    "seed.value=0,1",
    "trainer.max_epochs=20",
    "early_stop=none",
    "monitor=scalars",
    f"output_dir={SCRATCH}",
]
USER = [sys.executable, str(HERE / "sweep_user.py"), "-m", *SWEPT, "seed=0,1", f"hydra.sweep.dir={SCRATCH}"]
JOBLIB = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"]
ONE = [sys.executable, str(HERE / "sweep_user.py"), "loop=lightning"]
SPLIT = [
    [f"{words.partition('=')[0]}={word}" for word in words.partition("=")[2].split(",")] for words in SWEPT
]
RUNS = [
    f"{init} {scheduler} seed={seed} hydra.run.dir={SCRATCH}/{init[5:]}-{scheduler[10:]}-{seed}"
    for init, scheduler, seed in product(*SPLIT, (0, 1))
]
EACH = f"printf '%s\\n' {shlex.join(RUNS)} | xargs -P {os.cpu_count()} -L 1 {shlex.join(ONE)}"
CONTENDERS = {
    "ours": OURS,
    "ours_apart": [*OURS, "hydra.launcher.fuse=false"],
    "plain_basic": USER,
    "plain_joblib": [*USER, *JOBLIB],
    "lightning_basic": [*USER, "loop=lightning"],
    "lightning_each": ["sh", "-c", EACH],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    asked = parser.parse_args()
    one_thread(None)
    names = asked.contenders.split(",")
    samples, failures = interleave({name: command(CONTENDERS[name], HERE) for name in names}, asked.rounds)
    print(table(samples, dict.fromkeys(names, "ours"), "seconds", 1))
    for name, why in failures.items():
        print(f"{name}: not measured: {why}")


if __name__ == "__main__":
    main()
