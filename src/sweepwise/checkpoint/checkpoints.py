"""Writes and reads checkpoints, from which a run resumes as if it had never been interrupted.

    checkpoints/
      step-00001234/   weights.safetensors   parameters and buffers after so many steps; averages are ema/NAME
                       weights.extra.pt      what else is in the model's state_dict, only if there is anything
                       best.safetensors, best.extra.pt   the best so far; missing before the first validation
                       state.pt              everything else; torch.load(..., weights_only=True) reads it
                       manifest.json         size and sha256 of each file, and of itself
      step-00001234.1/ the same, of an epoch that was closed after a checkpoint at the same step
      best-00001100/   weights.safetensors; weights.extra.pt if there is anything in it, and then a manifest
      ended-00001300/  the same, of the last step of a run that has ended for good, unless best-... is that
      last, best       links to the newest of each

A folder appears as a whole or not at all (`system.atomic`), and is used only if every byte of it is as it
was written (`manifest`). Weights that are in several folders are one file with several names. A run that has
ended for good keeps no step-...: they go once its record says so, and killed before, it goes on from one.
"""

import errno
import itertools
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from sweepwise.checkpoint.contents import BEST, STATE, Files, Saved, Weights, contents, extra_of, read
from sweepwise.checkpoint.manifest import MANIFEST, WEIGHTS, order, read_verified, sealed, serialize
from sweepwise.config.ranges import Range
from sweepwise.errors import Failure
from sweepwise.store import folders, takeover
from sweepwise.store.folders import CHECKPOINTS
from sweepwise.system import atomic, disk
from sweepwise.system.handle import readable

AFFORDABLE = 0.01  # of the time between two checkpoints: if writing takes longer, a thread does it
MAX_WARNINGS = 3  # about a full disk
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointsDamaged(Failure):
    """A run has checkpoints, but none of them is intact."""


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint is due as soon as one of the three intervals has passed; an interval of 0 does not count.
    There is always one at a pause, and when a signal ends the training; one that has ended leaves weights.
    With the first one what was written when the run began is brought to the disk, and with each its logs.

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
        atomic.make_folder(self._folder, durable=False)
        self._begun = False  # whether what was written when the run began is on the disk
        self._last: tuple[atomic.Durable, list[Path], bool] | None = None  # what `finish` has written aside
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
        """Writes the last checkpoint of the training aside; `ending` puts it in place.

        Args:
            step: how many steps have been taken.
            weights: see `save`.
            best: see `save`.
            state: see `save`; if empty, the run ends for good, and only its weights are written.

        Raises:
            OSError: it could not be written.
            TakenOver: another process has taken the run over.
        """
        takeover.refuse_lost(self._folder)
        self._wait()
        saving = self._saving(step, weights, best, state)
        self._last = saving, [*next(saving)], not state

    def ending(self, *, for_good: bool) -> atomic.Durable:
        """Puts what `finish` has written in place; then the record can say that the run has ended.

        It yields twice: what must be on the disk before that, and the folder that must be before the record.
        When it goes on from there, it removes what the run needs no more.

        Args:
            for_good: whether the run has ended for good; if not, weights without a state are dropped.

        Raises:
            OSError: it could not be written.
        """
        self.close()
        last, self._last = self._last, None
        if last and (for_good or not last[2]):
            saving, written, _ = last
            yield written
            yield from saving
        else:
            yield self._beginning({})
            yield []
            if last:
                last[0].close()

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
                saved = read(path, tuple(reasons))
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
        if saved.best:
            with ExitStack() as undo:
                best = self._place(undo, f"best-{saved.state['best_step']:08d}", *_best_of(newest, saved))
                disk.sync_each(best.now)  # here is nothing to share a sync with
                for paths in best.making:
                    disk.sync_each(paths)
            moved = atomic.point(self._folder / "best", best.folder.name)
        else:
            moved = False
            (self._folder / "best").unlink(missing_ok=True)
        if atomic.point(self._folder / "last", newest.name) or moved:
            disk.sync(self._folder)
        self._remove("best-*", *([best.folder.name] if saved.best else []))
        self._remove("ended-*")

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
        atomic.alone(self._saving(step, weights, best, state))

    def _saving(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> atomic.Durable:
        """A checkpoint, in three stages: what is written aside; what is in place; what is removed then."""
        with ExitStack() as undo:
            own, kept = contents(step, weights), contents(*best) if best else None
            places = [self._place(undo, f"best-{best[0]:08d}", best[0], kept)] if best and kept else []
            shared = _shared(places[0], own, kept) if places and kept else {}
            if state:
                files = own | {_of_best(name): content for name, content in (kept or {}).items()}
                files[STATE] = serialize({"step": step, "best_step": best[0] if best else None, **state})
                places.append(self._place(undo, f"step-{step:08d}", step, files, shared))
            elif own != kept:
                places.append(self._place(undo, f"ended-{step:08d}", step, own))
            written = [*self._beginning(state), *(path for place in places for path in place.now)]
            keep = self._keep if state else 0
            files = {}
            del weights, best, own, kept, state  # all is written, and other runs may train on
            yield written
            names = [place.folder.name for place in places]
            for place in places:
                with self._explained(place.folder.name):
                    next(place.making, None)
            atomic.point(self._folder / "last", names[-1])
            if names[0].startswith("best-"):
                atomic.point(self._folder / "best", names[0])
            yield [self._folder]
        self._begun = True
        for kind in ("best-*", "ended-*"):
            self._remove(kind, *names)
        steps = sorted(self._folder.glob("step-*"), key=order)
        for old in steps[: max(0, len(steps) - keep)]:
            if old.name not in names:
                shutil.rmtree(old, ignore_errors=True)

    def _beginning(self, state: Mapping[str, Any]) -> list[Path]:
        """What must reach the disk before a checkpoint, beside its own files."""
        if not self._begun:
            return [*folders.beginning(self._folder.parent), self._folder]
        logs = (self._folder.parent / name for name in state.get("log", ()))
        return [path for path in logs if path.exists()]

    def _remove(self, kind: str, *but: str) -> None:
        for path in self._folder.glob(kind):
            if path.name not in but:
                shutil.rmtree(path, ignore_errors=True)

    def _place(
        self, undo: ExitStack, name: str, step: int, files: Files, shared: Mapping[str, Path] | None = None
    ) -> "_Place":
        """Writes a folder aside, unless there is one with the same content.

        A folder of the same step with other content stays, and the new one gets a number behind the step: a
        run that was stopped after the last step of an epoch closes that epoch without another step.

        Args:
            undo: removes what is written aside, if it is not put in place.
            name: of the folder.
            step: of the folder.
            files: content by name.
            shared: see `atomic.making`.
        """
        files = sealed(step, files)
        for number in itertools.count():
            folder = self._folder / (f"{name}.{number}" if number else name)
            if not folder.exists():
                break
            try:
                if read_verified(folder) | {MANIFEST: b""} == files | {MANIFEST: b""}:
                    return _Place(folder, iter(()), [folder])
            except ValueError:
                shutil.rmtree(folder)
                break
        making = undo.enter_context(closing(atomic.making(folder, files, shared)))
        needed = sum(len(content) for name, content in files.items() if name not in (shared or {}))
        with self._explained(folder.name, needed):
            return _Place(folder, making, [*next(making)])

    @contextmanager
    def _explained(self, name: str, needed: int = 0) -> Iterator[None]:
        """Says of an error in writing a folder what would help."""
        try:
            yield
        except FileNotFoundError as error:
            why = f"{readable(self._folder)}: was removed while the run trained"
            raise OSError(errno.ENOENT, why) from error
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            free = shutil.disk_usage(self._folder).free
            text = f"no room for {CHECKPOINTS}/{name}: it needs {needed:,} bytes, {free:,} are free"
            if free > needed:
                text += ", so the limit is the number of files or a quota"
            raise OSError(error.errno, f"{text}; the earlier checkpoints are kept") from error


@dataclass(frozen=True)
class _Place:
    """A folder of a checkpoint that is being made, or there already.

    Attributes:
        folder: where it will be, or is.
        making: puts it there.
        now: where it is now, and its files if they are new.
    """

    folder: Path
    making: Iterator[Iterable[Path]]
    now: list[Path]


def _shared(best: _Place, own: Files, kept: Files) -> dict[str, Path]:
    """Where files of the best weights are, by the names that they have in a checkpoint."""
    files = {_of_best(name): best.now[0] / name for name in kept}
    return files | {name: best.now[0] / name for name in kept if own.get(name) == kept[name]}


def _of_best(name: str) -> str:
    """The name that a file of the best weights has in a checkpoint."""
    return BEST if name == WEIGHTS else extra_of(BEST)


def _best_of(newest: Path, saved: Saved) -> tuple[int, Files, dict[str, Path]]:
    """Step and files of the best weights of a checkpoint, and where they are already."""
    step = saved.state["best_step"]
    files = contents(step, saved.best)
    there = {name: newest / _of_best(name) for name, content in files.items()}
    return step, files, {name: path for name, path in there.items() if path.read_bytes() == files[name]}
