"""Writes and reads checkpoints, from which a run resumes as if it had never been interrupted.

    checkpoints/
      step-00001234/   weights.safetensors   parameters and buffers after so many steps; averages are ema/NAME
                       weights.extra.pt      what else is in the model's state_dict, only if there is anything
                       best.safetensors, best.extra.pt   the best so far; missing before the first validation
                       state.pt              everything else; torch.load(..., weights_only=True) reads it
                       manifest.json         size and sha256 of each file, and of itself
      step-00001234.1/ the same, of an epoch that was closed after a checkpoint at the same step
      best-00001100/   weights.safetensors, weights.extra.pt if there is anything in it, and a manifest
      last, best       links to the newest of each

A folder appears as a whole or not at all (`system.atomic`), and is used only if it agrees with its manifest.
"""

import errno
import itertools
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from sweepwise.checkpoint.manifest import (
    MALFORMED,
    MANIFEST,
    deserialize,
    manifest,
    order,
    read_verified,
    serialize,
)
from sweepwise.config.ranges import Range
from sweepwise.errors import Failure
from sweepwise.store import takeover
from sweepwise.store.folders import CHECKPOINTS
from sweepwise.system import atomic
from sweepwise.system.handle import readable

WEIGHTS, BEST, STATE = "weights.safetensors", "best.safetensors", "state.pt"
WITHOUT_TYPE = (torch.complex32, torch.complex128)  # dtypes that safetensors does not know
AFFORDABLE = 0.01  # of the time between two checkpoints: if writing takes longer, a thread does it
MAX_WARNINGS = 3  # about a full disk
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Weights = Mapping[str, Any]  # tensors, and what else a model's state_dict holds


class CheckpointsDamaged(Failure):
    """A run has checkpoints, but none of them is intact."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read back.

    Attributes:
        step: how many steps had been taken.
        weights: parameters and buffers by name, on the CPU.
        best: the best ones so far; empty if there were none.
        state: as given to `Checkpoints.save`.
        damaged: newer checkpoints that are damaged, and how.
    """

    step: int
    weights: Weights
    best: Weights
    state: Mapping[str, Any]
    damaged: tuple[str, ...] = field(default=())


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint is due as soon as one of the three intervals has passed; an interval of 0 does not count.
    There is always one at the end, and when a signal ends the training.

    Args:
        folder: the run's.
        minutes: between two checkpoints, >= 0.
        steps: the same in steps; also within an epoch.
        epochs: the same in epochs.
        keep: how many of the newest ones stay, >= 1. If there are several, an older one serves when a newer
            one is damaged.
        full_disk: if there is no room for a checkpoint: 'continue' skips it, keeps the older ones and
            continues the training; 'stop' ends the run as failed.

    Attributes:
        failures: which checkpoints could not be written and why, one line each.
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
        self._folder = folder / CHECKPOINTS
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
        """Writes a checkpoint; in a thread, once writing has turned out to take long (`AFFORDABLE`).

        Args:
            step: how many steps have been taken.
            weights: on the CPU; must not be changed afterwards.
            best: after how many steps the best weights were reached, and these weights.
            state: tensors on the CPU, numbers, texts, None, in dictionaries and lists.

        Raises:
            OSError: it could not be written; for a full disk only with full_disk='stop'.
            TakenOver: another process has taken the run over.
        """
        takeover.refuse_lost(self._folder)
        began = time.monotonic()
        self._wait()
        if self._writer:
            self._writing = self._writer.submit(self._save, step, weights, best, state)
        else:
            with self._tolerating_full_disk():
                self._save(step, weights, best, state)
            if time.monotonic() - began > AFFORDABLE * (began - self._since):
                self._writer = ThreadPoolExecutor(1)
        self._since = time.monotonic()

    def finish(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Writes the last checkpoint of the training and waits until it is on the disk.

        Args:
            step: how many steps have been taken.
            weights: see `save`.
            best: see `save`.
            state: see `save`; if empty, the run cannot resume from here, and only its weights are written.

        Raises:
            OSError: it could not be written.
            TakenOver: another process has taken the run over.
        """
        takeover.refuse_lost(self._folder)
        self._wait()
        self._save(step, weights, best, state)
        self.close()

    def close(self) -> None:
        """Waits until the thread has written everything, and ends it.

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
        """The newest intact checkpoint; None if none was ever written.

        Whatever is newer no longer belongs to the run: damaged checkpoints are renamed to 'damaged-...', and
        newer best weights are removed.

        Raises:
            CheckpointsDamaged: there are checkpoints, but none of them is intact.
        """
        atomic.clear_aside(self._folder)
        reasons: list[str] = []
        for path in sorted(self._folder.glob("step-*"), key=order, reverse=True):
            try:
                saved = _read(path, tuple(reasons))
            except ValueError as error:
                reasons.append(f"{CHECKPOINTS}/{path.name}: {error}")
                continue
            self._discard_newer(path, saved)
            return saved
        if reasons:
            raise CheckpointsDamaged(
                f"{readable(self._folder)}: no checkpoint is intact: {'; '.join(reasons)}. Restore one from "
                "a copy, or use fresh=true to train again from the beginning"
            )
        return None

    def _discard_newer(self, newest: Path, saved: Saved) -> None:
        for path in self._folder.glob("step-*"):
            if order(path) > order(newest):
                aside = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        atomic.point(self._folder / "last", newest.name)
        if saved.best:
            self._write_best(saved.state["best_step"], _contents(saved.best))
        else:
            (self._folder / "best").unlink(missing_ok=True)
            for path in self._folder.glob("best-*"):
                shutil.rmtree(path)

    def _wait(self) -> None:
        if self._writing:
            writing, self._writing = self._writing, None
            with self._tolerating_full_disk():
                writing.result()

    @contextmanager
    def _tolerating_full_disk(self) -> Iterator[None]:
        """Turns an error about a full disk into a warning, unless full_disk='stop'."""
        try:
            yield
        except OSError as error:
            if error.errno not in DISK_FULL or self._full_disk == "stop":
                raise
            self.failures.append(str(error.strerror))
            if len(self.failures) <= MAX_WARNINGS:
                print(f"warning: {error.strerror}; the training continues", file=sys.stderr)

    def _save(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        files = _files(WEIGHTS, _contents(weights))
        if best:
            contents = _contents(best[1])
            self._write_best(best[0], contents)
        if state:
            files |= _files(BEST, contents) if best else {}
            full_state = {"step": step, "best_step": best[0] if best else None, **state}
            files |= {STATE: serialize(full_state)}
        name = self._write_folder(f"{'step' if state else 'ended'}-{step:08d}", step, files)
        atomic.point(self._folder / "last", name)
        for old in sorted(self._folder.glob("step-*"), key=order)[: -self._keep]:
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)

    def _write_best(self, step: int, contents: Sequence[bytes]) -> None:
        """Writes the best weights, and removes the others."""
        name = self._write_folder(f"best-{step:08d}", step, _files(WEIGHTS, contents))
        atomic.point(self._folder / "best", name)
        for other in self._folder.glob("best-*"):
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)

    def _write_folder(self, name: str, step: int, files: Mapping[str, bytes]) -> str:
        """Writes a folder with its manifest, unless it exists and is intact; returns its name.

        A folder of the same step with other content stays, and the new one gets a number behind the step: a
        run that was stopped after the last step of an epoch closes that epoch without another step.
        """
        content = {**files, MANIFEST: manifest(step, files)}
        for number in itertools.count():
            folder = self._folder / (f"{name}.{number}" if number else name)
            if not folder.exists():
                break
            try:
                read_verified(folder)
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
            text = f"no room for {CHECKPOINTS}/{folder.name}: it needs {needed:,} bytes, {free:,} are free"
            if free > needed:
                text += ", so the limit is the number of files or a quota"
            raise OSError(error.errno, f"{text}; the earlier checkpoints are kept") from error
        return folder.name


def read_weights(folder: Path, which: Literal["best", "last"]) -> Weights:
    """The best or the newest weights of a run, which may be training meanwhile.

    Args:
        folder: the run's.
        which: of the two.

    Returns:
        Parameters and buffers by name, on the CPU; of the newest also averages, see `ema.AVERAGE`.

    Raises:
        Failure: there are none yet, or they are damaged.
    """
    while True:
        path = _newest(folder / CHECKPOINTS, which)
        if path is None:
            other = "" if which == "last" else "; checkpoint=last takes the newest, if there are any"
            raise Failure(f"{readable(folder)}: has no {which} weights{other}")
        try:
            files = read_verified(path)
            return _weights(WEIGHTS, files)
        except (ValueError, *MALFORMED) as error:
            if path == _newest(folder / CHECKPOINTS, which):  # else the run has replaced it just now
                raise Failure(f"{readable(path)}: cannot be used: {error}") from error


def _newest(folder: Path, which: Literal["best", "last"]) -> Path | None:
    """The folder that the link leads to, or would if copying had not made a folder of it."""
    link = folder / which
    if link.is_symlink() and link.is_dir():
        return link.resolve()
    kinds = ("best",) if which == "best" else ("step", "ended")
    return max((path for kind in kinds for path in folder.glob(f"{kind}-*")), key=order, default=None)


def extra_of(name: str) -> str:
    """The name of the file with the rest of a model, beside the file of weights of this name."""
    return name.removesuffix(".safetensors") + ".extra.pt"


def _contents(weights: Weights) -> list[bytes]:
    """The content of the file of weights and, if there is more, of the one with the rest."""
    tensors = {name: value for name, value in weights.items() if _is_plain(value)}
    rest = {name: value for name, value in weights.items() if name not in tensors}
    return [to_bytes(tensors), *([serialize(rest)] if rest else [])]


def _files(name: str, contents: Sequence[bytes]) -> dict[str, bytes]:
    """Contents by the names of their files; `name` is that of the file of weights."""
    return dict(zip([name, extra_of(name)], contents, strict=False))


def _weights(name: str, files: Mapping[str, bytes]) -> Weights:
    """The weights in the file of this name, with the rest."""
    rest = files.get(extra_of(name))
    return {**from_bytes(files[name]), **(deserialize(rest) if rest else {})}


def _is_plain(value: object) -> bool:
    """Whether a safetensors file can hold a value: a dense tensor of a type that it knows."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
        return False
    return value.dtype not in WITHOUT_TYPE


def _read(folder: Path, damaged: tuple[str, ...]) -> Saved:
    """Reads a checkpoint.

    Raises:
        ValueError: it is damaged; says how.
    """
    files = read_verified(folder)
    extra = {extra_of(name) for name in files.keys() & {WEIGHTS, BEST}}
    if not {STATE, WEIGHTS} <= files.keys() <= {STATE, WEIGHTS, BEST} | extra:
        raise ValueError(f"{MANIFEST} names {', '.join(files) or 'no files'}")
    try:
        state = deserialize(files[STATE])
        if state["step"] != order(folder)[0] or isinstance(state["best_step"], int) != (BEST in files):
            raise ValueError(f"{STATE} belongs to another checkpoint")
        best = _weights(BEST, files) if BEST in files else {}
        return Saved(state["step"], _weights(WEIGHTS, files), best, state, damaged)
    except MALFORMED as error:
        raise ValueError(
            f"has content that no checkpoint has ({str(error).partition(chr(10))[0]})"
        ) from error
