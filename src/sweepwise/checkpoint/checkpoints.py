"""A run on disk: what is needed to go on as if it had never been interrupted.

    checkpoints/
      step-00001234/   weights.safetensors   parameters and buffers after so many steps, averages as ema/NAME
                       best.safetensors      the best ones so far; not there before the first validation
                       state.pt              everything else; torch.load(..., weights_only=True) reads it
                       manifest.json         size and sha256 of each file, and of itself
      step-00001234.1/ likewise, if that epoch was closed only after a checkpoint of the same step
      best-00001100/   weights.safetensors and its manifest
      last, best       links to the newest of each

A folder is in place as a whole or not at all (`durable`), and is believed only if its manifest holds.
"""

import errno
import itertools
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from sweepwise.checkpoint.manifest import MALFORMED, MANIFEST, manifest, opened, order, packed, unpacked
from sweepwise.config.ranges import Range
from sweepwise.errors import Failure
from sweepwise.store import takeover
from sweepwise.store.folders import CHECKPOINTS as FOLDER
from sweepwise.system import atomic
from sweepwise.system.handle import readable

WEIGHTS, BEST, STATE = "weights.safetensors", "best.safetensors", "state.pt"
AFFORDABLE = 0.01  # of the time between two checkpoints: what takes longer is written by a thread
TOLD = 3  # checkpoints for which there is no room are named; that there is none is clear then
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Weights = Mapping[str, Tensor]


class Damaged(Failure):
    """Checkpoints are there, and none of them can be believed."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read back.

    Attributes:
        step: how many steps had been taken.
        weights: parameters and buffers by name, on the CPU.
        best: the best ones so far; empty if there were none.
        state: as given to `Checkpoints.save`.
        damaged: newer checkpoints that could not be believed, and why.
    """

    step: int
    weights: Weights
    best: Weights
    state: Mapping[str, Any]
    damaged: tuple[str, ...] = field(default=())


class Checkpoints:
    """The checkpoints of one run.

    Whichever interval has passed first makes one due; 0 means that this interval does not count. One is made
    at the end in any case, and when a signal ends the training.

    Args:
        folder: the run's.
        minutes: between two checkpoints, >= 0.
        steps: likewise; also in the middle of an epoch.
        epochs: likewise.
        keep: how many of the newest ones stay, >= 1. With more than one an older one takes over from one that
            was damaged.
        full_disk: 'continue': a checkpoint for which there is no room is left out, the older ones stay and
            the training goes on; 'stop': it ends there as failed.

    Attributes:
        failures: what could not be written, one line each.
    """

    def __init__(
        self,
        folder: Path,
        *,
        minutes: Annotated[float, Range(0)] = 1.0,
        steps: Annotated[int, Range(0)] = 0,
        epochs: Annotated[int, Range(0)] = 0,
        keep: Annotated[int, Range(1)] = 2,
        full_disk: Literal["continue", "stop"] = "continue",
    ) -> None:
        self._folder = folder / FOLDER
        atomic.make_folder(self._folder)
        self._seconds = 60 * minutes
        self._steps, self._epochs, self._keep = steps, epochs, keep
        self._full_disk = full_disk
        self._since = time.monotonic()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self.failures: list[str] = []

    def due(self, step: int, epochs: int = 0) -> bool:
        """Whether it is time for a checkpoint.

        Args:
            step: how many steps have been taken.
            epochs: how many epochs have been closed, if that has just happened; else 0.
        """
        return (
            (self._steps != 0 and step % self._steps == 0)
            or (self._epochs != 0 and epochs != 0 and epochs % self._epochs == 0)
            or (self._seconds != 0 and time.monotonic() - self._since >= self._seconds)
        )

    def save(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Makes a checkpoint; by a thread, once that has turned out to be worth it.

        Args:
            step: how many steps have been taken.
            weights: on the CPU, not changed any more.
            best: the best weights and how many steps had led to them.
            state: tensors on the CPU, numbers, texts, None, in dictionaries and lists.

        Raises:
            OSError: it could not be written; one for which the disk has no room only if `full_disk` says so.
            Fenced: another process has taken the run over.
        """
        takeover.refuse_lost(self._folder)
        began = time.monotonic()
        self._wait()
        if self._writer:
            self._writing = self._writer.submit(self._save, step, weights, best, state)
        else:
            with self._excusing():
                self._save(step, weights, best, state)
            if time.monotonic() - began > AFFORDABLE * (began - self._since):
                self._writer = ThreadPoolExecutor(1)
        self._since = time.monotonic()

    def finish(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Makes a last checkpoint, with which the training ends, and waits until it is on the disk.

        Args:
            step: how many steps have been taken.
            weights: see `save`.
            best: see `save`.
            state: see `save`; empty: the run cannot go on from here, so only its weights are written.

        Raises:
            OSError: it could not be written.
            Fenced: another process has taken the run over.
        """
        takeover.refuse_lost(self._folder)
        self._wait()
        self._save(step, weights, best, state)
        self.close()

    def close(self) -> None:
        """Waits for what a thread is still writing.

        Raises:
            OSError: it could not be written.
        """
        try:
            self._wait()
        finally:
            if self._writer:
                self._writer.shutdown()
                self._writer = None

    def load(self) -> Saved | None:
        """The newest checkpoint that holds what its manifest says; None if none was ever made.

        What was written after it is no part of this run any more: damaged checkpoints are set aside as
        'damaged-...', and best weights that are newer are removed.

        Raises:
            Damaged: there are checkpoints, and none of them is whole.
        """
        atomic.clear_aside(self._folder)
        reasons: list[str] = []
        for path in sorted(self._folder.glob("step-*"), key=order, reverse=True):
            try:
                saved = _read(path, tuple(reasons))
            except ValueError as error:
                reasons.append(f"{FOLDER}/{path.name}: {error}")
                continue
            self._forget_after(path, saved)
            return saved
        if reasons:
            raise Damaged(
                f"{readable(self._folder)}: no checkpoint is whole: {'; '.join(reasons)}. Put a good copy "
                "back, or start anew with fresh=true"
            )
        return None

    def _forget_after(self, newest: Path, saved: Saved) -> None:
        for path in self._folder.glob("step-*"):
            if order(path) > order(newest):
                aside = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        atomic.point(self._folder / "last", newest.name)
        if saved.best:
            self._put_best(saved.state["best_step"], to_bytes(dict(saved.best)))
        else:
            (self._folder / "best").unlink(missing_ok=True)
            for path in self._folder.glob("best-*"):
                shutil.rmtree(path)

    def _wait(self) -> None:
        if self._writing:
            writing, self._writing = self._writing, None
            with self._excusing():
                writing.result()

    @contextmanager
    def _excusing(self) -> Iterator[None]:
        """Only a full disk can be lived with, and only if that was wanted."""
        try:
            yield
        except OSError as error:
            if error.errno not in DISK_FULL or self._full_disk == "stop":
                raise
            self.failures.append(str(error.strerror))
            if len(self.failures) <= TOLD:
                print(f"warning: {error.strerror}; the training goes on", file=sys.stderr)

    def _save(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        files = {WEIGHTS: to_bytes(dict(weights))}
        if best:
            kept = to_bytes(dict(best[1]))
            self._put_best(best[0], kept)
        if state:
            files |= {BEST: kept} if best else {}
            told = {"step": step, "best_step": best[0] if best else None, **state}
            files |= {STATE: packed(told)}
        name = self._put(f"{'step' if state else 'ended'}-{step:08d}", step, files)
        atomic.point(self._folder / "last", name)
        for old in sorted(self._folder.glob("step-*"), key=order)[: -self._keep]:
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)

    def _put_best(self, step: int, weights: bytes) -> None:
        """Writes the best weights, and removes the others."""
        name = self._put(f"best-{step:08d}", step, {WEIGHTS: weights})
        atomic.point(self._folder / "best", name)
        for other in self._folder.glob("best-*"):
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)

    def _put(self, name: str, step: int, files: Mapping[str, bytes]) -> str:
        """Writes a folder with its manifest, unless it is there and whole; returns its name.

        One of the same step with other content stays, and the new one gets a number behind the step: a run
        that was stopped by the last step of an epoch closes that epoch without another step.
        """
        content = {**files, MANIFEST: manifest(step, files)}
        for number in itertools.count():
            folder = self._folder / (f"{name}.{number}" if number else name)
            if not folder.exists():
                break
            try:
                opened(folder)
            except ValueError:
                shutil.rmtree(folder)
                break
            if (folder / MANIFEST).read_bytes() == content[MANIFEST]:
                return folder.name
        needed = sum(map(len, content.values()))
        try:
            atomic.write_folder(folder, content)
        except FileNotFoundError as error:
            why = f"{readable(self._folder)}: was removed while the run trained"
            raise OSError(errno.ENOENT, why) from error
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            free = shutil.disk_usage(self._folder).free
            text = f"no room for {FOLDER}/{folder.name}: it needs {needed:,} bytes, {free:,} are free"
            if free > needed:
                text += ", so it is the number of files or a quota that is exhausted"
            raise OSError(error.errno, f"{text}; the checkpoints before it are kept") from error
        return folder.name


def _read(folder: Path, damaged: tuple[str, ...]) -> Saved:
    """A checkpoint.

    Raises:
        ValueError: it is not what its manifest says, and how.
    """
    files = opened(folder)
    if not {STATE, WEIGHTS} <= files.keys() <= {STATE, WEIGHTS, BEST}:
        raise ValueError(f"{MANIFEST} names {', '.join(files) or 'no files'}")
    try:
        state = unpacked(files[STATE])
        if state["step"] != order(folder)[0] or isinstance(state["best_step"], int) != (BEST in files):
            raise ValueError(f"{STATE} is of another checkpoint")
        best = from_bytes(files[BEST]) if BEST in files else {}
        return Saved(state["step"], from_bytes(files[WEIGHTS]), best, state, damaged)
    except MALFORMED as error:
        raise ValueError(f"holds what no checkpoint does ({str(error).partition(chr(10))[0]})") from error
