"""A run whose folder is open: it starts or resumes there, and its record is written however it ends."""

import sys
from collections.abc import Callable, Iterator, Mapping
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
from sweepwise.predict.kept import PREDICTION, prediction
from sweepwise.provenance.changes import differences, refuse_changed
from sweepwise.provenance.gather import Provenance, gather
from sweepwise.run.description import describe
from sweepwise.run.follow import RESUMING
from sweepwise.store import record
from sweepwise.store.claim import Claim
from sweepwise.store.folders import CHECKPOINTS, CODE, DIFF, RECORD, clear
from sweepwise.store.record import Record
from sweepwise.store.request import Request, keys
from sweepwise.store.shared import share
from sweepwise.store.status import EXIT_CODES, Ended, settled
from sweepwise.store.strict_json import rounded
from sweepwise.system import atomic
from sweepwise.system.atomic import Durable
from sweepwise.system.signals import swallowed_signal
from sweepwise.trainer import Run
from sweepwise.trainer.ending import ending


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
    request: Request,
    parts: Parts,
    claim: Claim,
    world: World = SINGLE_PROCESS,
    *,
    fused: bool,
    diagnose: Callable[[Parts], advice.Diagnosis] | None = None,
    begin: Callable[[Durable], None] = atomic.alone,
    end: Callable[[Durable], None] = atomic.alone,
) -> Iterator[Session]:
    """Opens a run's folder and brings the run to where it starts or resumes; records at the end how it ended.

    Args:
        request: the run.
        parts: its parts.
        claim: of its folder.
        world: the processes that train it.
        fused: whether it computes its steps as in a group of runs.
        diagnose: examines how its network starts, if it starts; None: `advice.diagnose`.
        begin: runs what writes its record at the start, now or together with those of others.
        end: likewise, what writes all that there is to write at its end.

    Raises:
        Ended: the run has ended already.
        Changed: it was produced with different code, inputs, versions or data.
        Failure: it has started, and no intact checkpoint is left.
    """
    config, folder = request.config, claim.inside
    settings = {"fused": fused} | ({"parallel": parts.settings.parallel} if world.size > 1 else {})
    provenance = gather(request, settings)
    now = provenance.fields() | {"data_sha256": parts.data.sha256}
    find_resume_point = partial(_resume_point, request, claim, now | {"code": provenance.code})
    saved, lines, changed = world.on_rank_0(RESUMING, find_resume_point, to_others=itemgetter(0))
    fields = {
        "id": request.id,
        "overrides": list(request.unpaused.overrides),
        "choices": dict(request.choices),
        "init": parts.init,
        "taken": parts.taken,
        "notes": parts.notes,
        "init_seed": parts.seeds.init,
    }
    if not saved:
        diagnosis = (diagnose or advice.diagnose)(parts)
        fields |= {"start": rounded(diagnosis.table())}
        lines += advice.start_lines(diagnosis)
    fields |= now | {"not_bit_exact": changed, "parameters": parts.parameters}
    checkpoints: Checkpoints = _in_folder("checkpoint", config).target(folder)
    monitor: Monitor = _in_folder("monitor", config).target(folder, saved.state if saved else START)
    step = saved.step if saved else 0
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints, parts.pause_after)
    session = Session(run, step, lines)
    log = Record(folder, going_on=saved is not None, from_step=step, **fields)
    with _recording_the_end(run, world, log, monitor, checkpoints, end):
        share(request.home, folder / CODE, provenance.code.content)
        if kept := prediction(parts, config):
            share(request.home, folder / PREDICTION, kept)
        if saved:
            parts.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
            run.load_state_dict(saved.state)
            del saved  # frees a whole model and its optimizer state
        else:
            _write_description(request.unpaused, parts, folder, provenance, monitor)
        begin(log.begin())
        yield session
    session.ended = log.fields


def _resume_point(
    request: Request, claim: Claim, now: Mapping[str, Any]
) -> tuple[Saved | None, list[tuple[str, str]], list[str]]:
    """Finds where a run resumes; if it starts from the beginning, its folder is emptied.

    Args:
        request: the run.
        claim: the claim of its folder.
        now: what produces the run now, as the fields of `record.json`, but for the hashes of all files.

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
    if not before and any((inside / CHECKPOINTS).glob("[!.]*-*")):
        raise Failure(
            f"{folder}: has checkpoints but no {RECORD}, which says what produced them; put {RECORD} back, "
            "or use fresh=true to train again from the beginning, which replaces this folder's content"
        )
    if not before:
        clear(inside)
        return None, [], []
    differs = differences(before, now, inside)
    changed = [*differs.code, *differs.inputs]
    if settled(before, request.config):
        refuse_changed(folder, before, request, [*changed, *differs.versions])
        raise Ended(folder, EXIT_CODES[before["status"]])
    changed += ["the data changed"] if before["data_sha256"] != now["data_sha256"] else []
    refuse_changed(folder, before, request, changed)
    atomic.clear_aside(inside)
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
    if provenance.diff:
        share(request.home, folder / DIFF, provenance.diff.encode())
    atomic.put(folder / "config.yaml", description.yaml.encode())
    tested = len(parts.data.test.y) > 0
    given = keys(request.overrides)
    monitor.describe(description.texts, description.hparams, parts.logged, given, tested=tested)
    monitor.begin(parts.model, *parts.sample(EXAMPLES))


@contextmanager
def _recording_the_end(
    run: Run,
    world: World,
    log: Record,
    monitor: Monitor,
    checkpoints: Checkpoints,
    end: Callable[[Durable], None],
) -> Iterator[None]:
    """Gives the run its final status, and has its end brought to the disk, whether it fails or not.

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
        end(ending(run, log, monitor, checkpoints, failing=sys.exception() is not None))
