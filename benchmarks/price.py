"""Counts what surrounds each run of a sweep: whole commands, beside the same of another checkout.

    python benchmarks/price.py                                  about 15 minutes
    python benchmarks/price.py --against ../before --rounds 3
    python benchmarks/price.py --contenders 32,torch report=false mean_runs=false

The network is 64-32-10 on digits, scalars are logged, and each command has one core:

    one             a run alone, of one step
    2, 32, ...      so many runs of one step, which differ in their seeds, trained as one program
    32x40           32 runs of 40 epochs
    32x40 apart     the same with hydra.launcher.fuse=false
    torch           python -c 'import torch', the unit

CPU is that of the command with all its processes; `a run` is what each run adds to the command of two runs.
Syncs are fsync, fdatasync and syncfs, counted by strace in the warm-up round, which also fills what is
remembered from sweep to sweep. Files are those in the folders of runs, where hard links count once; memory is
that of the largest process. Results are removed at the end: some file systems (ext4 without a journal) take
long to make files soon after many were removed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from interleave import Contender, Sample, Samples, interleave, one_thread, ratios

HERE = Path(__file__).resolve().parent.parent
SHORT = ["trainer.max_steps=1", "trainer.max_epochs=1"]
LONG = ["trainer.max_epochs=40"]
SWEEPS: dict[str, tuple[int, list[str]]] = {
    "one": (1, SHORT),
    **{str(runs): (runs, SHORT) for runs in (2, 32, 512, 2000)},
    "32x40": (32, LONG),
    "32x40 apart": (32, [*LONG, "hydra.launcher.fuse=false"]),
}
LEAST = "2"
SYNCS = "fsync,fdatasync,syncfs"


class Price(NamedTuple):
    """What a command has cost beside CPU; a number that could not be counted is missing."""

    syncs: int | None
    files: int
    bytes: int
    memory: int


class Command:
    """A whole command, measured each time it is called in a new folder of results.

    Args:
        checkout: whose code runs.
        words: of train.py, or of Python itself where there is no sweep.
        sweep: whether they are those of train.py.
        kept: the folder of what is remembered from one call to the next.
    """

    def __init__(self, checkout: Path, words: Sequence[str], sweep: bool, kept: Path) -> None:
        self._results = kept / "results"
        self._results.mkdir(parents=True, exist_ok=True)
        own = checkout / ".venv/bin/python"
        python = str(own if own.exists() else sys.executable)
        self._argv = [python, "train.py", *words] if sweep else [python, *words]
        self._checkout, self._sweep = checkout, sweep
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(checkout / "src"),
            "SWEEPWISE_CACHE": str(kept / "cache"),
        }
        self._syncs: int | None = None
        self._warm = False
        self.price = Price(None, 0, 0, 0)

    def __call__(self) -> Sample:
        """CPU seconds."""
        scratch = Path(tempfile.mkdtemp(dir=self._results))
        counts, trace = scratch / "counts", []
        if not self._warm and shutil.which("strace"):
            trace = ["strace", "-f", "--seccomp-bpf", "-c", "-e", f"trace={SYNCS}", "-o", str(counts)]
        argv = [*trace, *self._argv, *([f"output_dir={scratch}/out"] if self._sweep else [])]
        process = subprocess.Popen(argv, cwd=self._checkout, env=self._environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"exit code {process.returncode}: {' '.join(argv)}")
        if trace:
            found = re.findall(rf"^\s*\S+\s+\S+\s+\S+\s+(\d+).* (?:{SYNCS.replace(',', '|')})$",
                               counts.read_text(), re.M)  # fmt: skip
            self._syncs = sum(map(int, found))
        self._warm = True
        files, size = _files(scratch / "out/main")
        self.price = Price(self._syncs, files, size, used.ru_maxrss * 1024)
        return Sample(used.ru_utime + used.ru_stime)


def _files(home: Path) -> tuple[int, int]:
    """How many files the folders of runs hold, and bytes; hard links count once."""
    found = {}
    for run in home.glob("[!._]*/"):
        for path in run.rglob("*"):
            if path.is_file() and not path.is_symlink():
                stat = path.stat()
                found[stat.st_ino] = stat.st_size
    return len(found), sum(found.values())


def commands(
    checkout: Path, names: Sequence[str], more: Sequence[str], kept: Path
) -> Iterator[tuple[str, Command]]:
    """The commands of a checkout, by name."""
    for name in names:
        if name == "torch":
            yield name, Command(checkout, ["-c", "import torch"], False, kept)
            continue
        runs, words = SWEEPS[name]
        swept = ["-m", f"seed.value=range(0,{runs})", "hydra.launcher.max_parallel=1"] if runs > 1 else []
        same = ["data=digits", "model.hidden=[32]", "monitor=scalars", "early_stop=none", "progress=false"]
        yield name, Command(checkout, [*swept, *same, *words, *more], True, kept)


def row(name: str, samples: Samples, prices: Mapping[str, Price], least: str, before: str) -> str:
    """A line of the table: CPU, and of each run what it adds to the command of two runs."""
    seconds = median(sample.value for sample in samples[name])
    runs = SWEEPS.get(name.partition("@")[0], (0, []))[0]
    line = f"{name:18}{seconds:8.2f}"
    if runs:
        price = prices[name]
        added = ""
        if least in samples and runs > 2:
            others = median(sample.value for sample in samples[least])
            added = f"{1000 * (seconds - others) / (runs - 2):.2f}"
        syncs = "?" if price.syncs is None else f"{price.syncs / runs:.2f}"
        line += f"{added:>9}{syncs:>8}{price.files / runs:7.1f}{price.bytes / runs / 1000:8.1f}"
        line += f"{price.memory / 1e6:8.0f}"
    else:
        line += " " * 40
    if before in samples and before != name:
        ratio = ratios(samples, name, before)
        line += f"   {median(ratio):5.2f}  ({min(ratio):.2f}-{max(ratio):.2f})"
    return line.rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contenders", default=",".join([*SWEEPS, "torch"]))
    parser.add_argument("--cpu", type=int, default=0, help="the processor of all commands (Linux)")
    asked, more = parser.parse_known_args()
    one_thread(asked.cpu)
    names = asked.contenders.split(",")
    with tempfile.TemporaryDirectory() as kept:
        ours = dict(commands(HERE, names, more, Path(kept, "ours")))
        others = {}
        if asked.against:
            there = asked.against.resolve()
            others = {f"{name}@": one for name, one in commands(there, names, more, Path(kept, "theirs"))}
        all_of_them = {
            f"{name}{at}": one
            for name in names
            for at, one in (("", ours[name]), ("@", others.get(f"{name}@")))
            if one
        }
        contenders: dict[str, Contender] = dict(all_of_them)
        samples, _ = interleave(contenders, asked.rounds)
    prices = {name: one.price for name, one in all_of_them.items()}
    head = f"{'':18}{'CPU, s':>8}{'ms a run':>9}{'syncs':>8}{'files':>7}{'kB':>8}{'MB':>8}"
    print(head + (f"   ratio  (min-max) to {asked.against} (@)" if others else ""))
    for name in all_of_them:
        at = "@" if name.endswith("@") else ""
        print(row(name, samples, prices, f"{LEAST}{at}", f"{name.rstrip('@')}@"))
    if any(price.syncs is None for price in prices.values()):
        print("syncs: missing, as there is no strace")


if __name__ == "__main__":
    main()
