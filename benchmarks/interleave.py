"""Measure contenders in turn (A B C, A B C, ...) and compare them round by round. Knows no contender.

Other work on a machine changes its speed from minute to minute. Contenders measured within one round meet
about the same conditions, so each is divided by its reference of that round, and the median of these ratios
is what to read. The first round warms up and is thrown away.

A contender is either
    Worker    a function in a process of its own, spawned once and asked through a pipe for one measurement
              at a time. What one contender imports or keeps cannot slow another; waiting costs nothing.
    command   a whole process, timed from start to end.
"""

import atexit
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple, Self

SCRATCH = "{scratch}"


class Sample(NamedTuple):
    """One measurement and a word about it for the table."""

    value: float
    note: str = ""


class ContenderError(Exception):
    """A contender could not be measured; the others go on."""


Contender = Callable[[], Sample]
Samples = dict[str, list[Sample]]


def one_thread(cpu: int | None) -> None:
    """Give this process and all it starts one thread each, on processor `cpu` unless it is None."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


class Worker:
    """A contender in its own process; a context manager that ends the process.

    Args:
        measure: a function at the top of an importable module, called once for each measurement. What it
            prints is discarded.
        arguments: passed to every call.
    """

    def __init__(self, measure: Callable[..., Sample], *arguments: object) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, measure, arguments))
        self._process.start()
        theirs.close()

    def __call__(self) -> Sample:
        """One measurement. Raises ContenderError with the reason if there is none."""
        try:
            self._pipe.send("measure")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise ContenderError(f"its process ended with exit code {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise ContenderError(answer)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, measure: Callable[..., Sample], arguments: Sequence[object]) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    while pipe.recv():
        try:
            pipe.send(measure(*arguments))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


def command(argv: Sequence[str], cwd: Path) -> Contender:
    """A whole process: seconds from its start to its end.

    Args:
        argv: the command; "{scratch}" in an argument becomes a new folder, removed when this process ends:
            some file systems (ext4 without a journal) take long to make files soon after many were removed.
        cwd: where to run it.
    """

    def measure() -> Sample:
        scratch = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        start = perf_counter()
        done = subprocess.run(
            [word.replace(SCRATCH, scratch) for word in argv],
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seconds = perf_counter() - start
        if done.returncode != 0:
            last_words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise ContenderError(f"exit code {done.returncode}: {last_words[0]}")
        return Sample(seconds)

    return measure


def interleave(contenders: Mapping[str, Contender], rounds: int) -> tuple[Samples, dict[str, str]]:
    """Measure all contenders in turn, `rounds` times after a warm-up.

    Returns:
        The samples of each contender, one a round, and for those that failed the reason instead.
    """
    samples: Samples = {name: [] for name in contenders}
    failures: dict[str, str] = {}
    for turn in range(rounds + 1):
        print("warm-up" if turn == 0 else f"round {turn} of {rounds}", file=sys.stderr, flush=True)
        for name in list(samples):
            try:
                sample = contenders[name]()
            except ContenderError as error:
                failures[name] = str(error)
                del samples[name]
                continue
            if turn > 0:
                samples[name].append(sample)
    return samples, failures


def ratios(samples: Samples, name: str, reference: str) -> list[float]:
    """`name` divided by `reference`, one ratio a round."""
    return [a.value / b.value for a, b in zip(samples[name], samples[reference], strict=True)]


def table(samples: Samples, reference_of: Mapping[str, str], unit: str, digits: int) -> str:
    """Median, least and greatest value of each contender, and its ratio to its reference.

    Args:
        samples: as from `interleave`.
        reference_of: the reference of each contender; may be itself.
        unit: of the values.
        digits: decimals of the values.
    """
    width = max(map(len, samples), default=0)
    header = f"{'':{width}}  {unit + ', median':>16}{'min':>8}{'max':>8}   {'ratio':>6}  {'(min-max)':11}  to"
    rows = [header]
    for name, measured in samples.items():
        values = [sample.value for sample in measured]
        row = (
            f"{name:{width}}  {median(values):16.{digits}f}{min(values):8.{digits}f}{max(values):8.{digits}f}"
        )
        reference = reference_of[name]
        if reference in samples:
            ratio = ratios(samples, name, reference)
            row += f"   {median(ratio):6.2f}  ({min(ratio):.2f}-{max(ratio):.2f})  {reference}"
        else:
            row += f"   {'':6}  {'':11}  {reference}: not measured"
        rows.append(f"{row}   {measured[-1].note}".rstrip())
    return "\n".join(rows)
