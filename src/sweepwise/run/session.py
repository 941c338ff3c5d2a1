"""A run whose folder is open: it starts or resumes there, and its record is written however it ends."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from sweepwise.checkpoint import Checkpoints, Saved
from sweepwise.config.groups import GIVEN
from sweepwise.config.schema import Bound, bind
from sweepwise.diagnosis import advice
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.errors import Failure, explained, reason
from sweepwise.monitor.monitor import START, Monitor
from sweepwise.parts import EXAMPLES, Parts
from sweepwise.predict.kept import keep
from sweepwise.provenance.changes import differences, refuse_changed
from sweepwise.provenance.gather import Provenance, gather
from sweepwise.run.description import describe
from sweepwise.run.follow import RESUMING
from sweepwise.store import record
from sweepwise.store.claim import Claim
from sweepwise.store.folders import CHECKPOINTS, RECORD, clear
from sweepwise.store.record import Record
from sweepwise.store.request import Request, keys
from sweepwise.store.status import EXIT_CODES, Ended, settled
from sweepwise.store.takeover import TakenOver
from sweepwise.system.atomic import write_atomic
from sweepwise.system.signals import swallowed_signal
from sweepwise.trainer import Run


@dataclass
class Session:
    """A run whose folder is open.

    Attributes:
        run: its training state, monitor and checkpoints.
        step: the next optimizer step.
        lines: how it starts or resumes, for a person: (key, text).
        ended: its record, once the run has ended.
    """

    run: Run
    step: int
    lines: list[tuple[str, str]]
    ended: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def open_session(
    request: Request, parts: Parts, claim: Claim, world: World = SINGLE_PROCESS, *, fused: bool
) -> Iterator[Session]:
    """Opens a run's folder and brings the run to where it starts or resumes; records at the end how it ended.

    Raises:
        Ended: the run has ended already.
        Changed: it was produced with different code, inputs, versions or data.
        Failure: it has started, and no intact checkpoint is left.
    """
    config, folder = request.config, claim.inside
    settings = {"fused": fused} | ({"parallel": parts.settings.parallel} if world.size > 1 else {})
    provenance = gather(request, settings)
    now = provenance.fields() | {"data_sha256": parts.data.sha256}
    find_resume_point = partial(_resume_point, request, claim, now)
    saved, lines, changed = world.on_rank_0(RESUMING, find_resume_point, to_others=itemgetter(0))
    fields = {
        "id": request.id,
        "overrides": list(request.unpaused.overrides),
        "choices": dict(request.choices),
        "init": parts.init,
        "taken": parts.taken,
        "notes": parts.notes,
    }
    if not saved:
        diagnosis = advice.diagnose(parts)
        fields |= {"start": diagnosis.table()}
        lines += advice.start_lines(diagnosis)
    fields |= now | {"not_bit_exact": changed, "parameters": parts.parameters}
    checkpoints: Checkpoints = _in_folder("checkpoint", config).target(folder)
    monitor: Monitor = _in_folder("monitor", config).target(folder, saved.state if saved else START)
    step = saved.step if saved else 0
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints, parts.pause_after)
    session = Session(run, step, lines)
    with (
        Record(folder, going_on=saved is not None, from_step=step, **fields) as log,
        _recording_the_end(run, world, log, monitor, checkpoints),
    ):
        if saved:
            parts.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
            run.load_state_dict(saved.state)
            del saved  # frees a whole model and its optimizer state
        else:
            _write_description(request.unpaused, parts, folder, provenance, monitor)
        keep(folder, parts, config)
        yield session
    session.ended = log.fields


def _resume_point(
    request: Request, claim: Claim, now: Mapping[str, Any]
) -> tuple[Saved | None, list[tuple[str, str]], list[str]]:
    """Finds where a run resumes; if it starts from the beginning, its folder is emptied.

    Args:
        request: the run.
        claim: the claim of its folder.
        now: what produces the run now, as the fields of `record.json`.

    Returns:
        The checkpoint or None, lines about it for a person, and what has changed since the run started.

    Raises:
        Ended: the run has ended already.
        Changed: it was produced with different code, inputs, versions or data.
        Failure: it has started, and no intact checkpoint is left.
    """
    folder, inside = claim.folder, claim.inside
    if request.config["fresh"]:
        lines = [("fresh", "replaces the earlier run in this folder")] if (inside / RECORD).exists() else []
        clear(inside)
        return None, lines, []
    before = record.read(inside)
    if not before and any((inside / CHECKPOINTS).glob("step-*")):
        raise Failure(
            f"{folder}: has checkpoints but no {RECORD}, which says what produced them; put {RECORD} back, "
            "or use fresh=true to train again from the beginning, which replaces this folder's content"
        )
    if not before:
        clear(inside)
        return None, [], []
    differs = differences(before, now)
    changed = [*differs.code, *differs.inputs]
    if settled(before, request.config):
        refuse_changed(folder, before, request, [*changed, *differs.versions])
        raise Ended(folder, EXIT_CODES[before["status"]])
    changed += ["the data changed"] if before["data_sha256"] != now["data_sha256"] else []
    refuse_changed(folder, before, request, changed)
    saved = Checkpoints(inside).load()
    if saved is None:
        clear(inside)
        return None, [("resume", "there is no checkpoint yet: starts from the beginning")], []
    lines = [("damaged", text) for text in saved.damaged]
    lines += [("resume", f"from step {saved.step}, epoch {saved.state['epoch']}")]
    changed = [*before["not_bit_exact"], *changed, *differs.versions, *differs.machine]
    lines += [("", f"not bit-exact: {'; '.join(changed)}")] if changed else []
    return saved, lines, changed


def _in_folder(group: str, config: Mapping[str, Any]) -> Bound:
    """The target of a group whose object is built in the run's folder; `bind_all` has checked its values."""
    return bind(group, config[group], [], given=GIVEN[group])


def _write_description(
    request: Request, parts: Parts, folder: Path, provenance: Provenance, monitor: Monitor
) -> None:
    """Writes what a run keeps to its end: config, uncommitted changes, hparams, graph and examples."""
    description = describe(request, provenance.environment)
    write_atomic(folder / "config.yaml", description.yaml.encode())
    write_atomic(folder / "code.diff", provenance.diff.encode())
    tested = len(parts.data.test.y) > 0
    given = keys(request.overrides)
    monitor.describe(description.texts, description.hparams, parts.logged, given, tested=tested)
    monitor.begin(parts.model, *parts.sample(EXAMPLES))


@contextmanager
def _recording_the_end(
    run: Run, world: World, log: Record, monitor: Monitor, checkpoints: Checkpoints
) -> Iterator[None]:
    """Gives the run its final status, closes its files and writes its record, whether it fails or not.

    An error that only says that another process is gone, or that hides a signal, is replaced by that.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        run.end("interrupted", str(error))
        raise
    except Exception as error:
        if lost := world.lost(error):
            run.end(lost.status, str(lost))
            raise lost from error
        if stopped := swallowed_signal():
            run.end("interrupted", str(stopped))
            raise stopped from error
        run.end("failed", reason(error))
        if failure := explained(error):
            raise failure from error
        raise
    finally:
        # After an error of the run, errors of closing are dropped: a person must see the first one.
        dropped = contextlib.suppress(OSError, TakenOver) if sys.exception() else contextlib.nullcontext()
        with dropped, contextlib.closing(checkpoints):  # closed in any case, since it has a thread
            monitor.close(run.status)
        with dropped:
            log.end(run.status, run.reason, **run.outcome())
