"""A run whose folder is open: it starts or continues, and leaves a record however it ends."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sweepwise.checkpoint import Checkpoints, Saved
from sweepwise.config.schema import Bound, bind
from sweepwise.diagnosis import advice
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.errors import Failure, explained, reason
from sweepwise.monitor import START as BEGINNING
from sweepwise.monitor import Monitor
from sweepwise.parts import EXAMPLES, Parts
from sweepwise.provenance import changes, origin
from sweepwise.provenance.changes import made_by, refuse_changed
from sweepwise.provenance.environment import current_environment
from sweepwise.run import description
from sweepwise.run.follow import BEGINNING as GOING_ON
from sweepwise.run.from_config import GIVEN
from sweepwise.store import record
from sweepwise.store.claim import Claim
from sweepwise.store.folders import CHECKPOINTS, RECORD, clear
from sweepwise.store.record import Record
from sweepwise.store.request import Request, keys
from sweepwise.store.status import ENDED, Ended, ended
from sweepwise.store.takeover import TakenOver
from sweepwise.system import atomic
from sweepwise.system.signals import swallowed_signal
from sweepwise.trainer import Run


@dataclass
class Session:
    """A run whose folder is open.

    Attributes:
        run: what steers and watches it.
        step: that comes next.
        said: how it starts, or goes on: texts with their keys.
        ended: its record, once it has ended.
    """

    run: Run
    step: int
    said: list[tuple[str, str]]
    ended: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def open_session(
    request: Request, parts: Parts, claim: Claim, world: World = SINGLE_PROCESS, *, fused: bool
) -> Iterator[Session]:
    """Opens a run's folder: within, the run stands where it was left; at the end its record says what came.

    Raises:
        Ended: there is nothing left to do.
        Changed: it was begun by other code.
        Failure: no checkpoint of it is whole.
    """
    config, inside = request.config, claim.inside
    environment = current_environment(request.targets) | {"fused": fused}
    if world.size > 1:
        environment |= {"parallel": parts.settings.parallel}
    made = made_by(request, environment)
    made |= {"data_sha256": parts.data.sha256}
    saved, said, changed = world.on_rank_0(
        GOING_ON, partial(_left_off, request, claim, made), told=lambda left: left[0]
    )
    made |= {"not_bit_exact": changed}
    about = {"id": request.id, "overrides": list(request.overrides), "init": parts.init, "notes": parts.notes}
    if not saved:
        start = advice.diagnose(parts)
        about |= {"start": start.table()}
        said += advice.start_lines(start)
    checkpoints: Checkpoints = _own("checkpoint", config).target(inside)
    monitor: Monitor = _own("monitor", config).target(inside, saved.state if saved else BEGINNING)
    begin = saved.step if saved else 0
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
    begun = Session(run, begin, said)
    with Record(inside, going_on=saved is not None, from_step=begin, **about, **made) as log:
        try:
            if saved:
                parts.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
                run.load_state_dict(saved.state)
                del saved  # a whole model with its optimizer
            else:
                _describe(request, parts, inside, made["environment"], monitor)
            yield begun
        except KeyboardInterrupt as error:
            begun.run.end("interrupted", str(error))
            raise
        except Exception as error:
            if lost := world.lost(error):
                begun.run.end(lost.status, str(lost))
                raise lost from error
            if stopped := swallowed_signal():
                begun.run.end("interrupted", str(stopped))
                raise stopped from error
            begun.run.end("failed", reason(error))
            if failure := explained(error):
                raise failure from error
            raise
        finally:
            # If the run fails for a reason of its own, that is said, and not what fails after it.
            spared = contextlib.suppress(OSError, TakenOver) if sys.exception() else contextlib.nullcontext()
            with spared, contextlib.closing(checkpoints):  # that has a thread, so it ends in any case
                monitor.close(begun.run.status)
            with spared:
                log.end(begun.run.status, begun.run.reason, **begun.run.outcome())
    begun.ended = log.fields


def _own(group: str, config: Mapping[str, Any]) -> Bound:
    """The target of a group that is built in the run's folder; `bind_all` has checked it."""
    return bind(group, config[group], [], given=GIVEN[group])


def _describe(
    request: Request, parts: Parts, folder: Path, environment: Mapping[str, Any], monitor: Monitor
) -> None:
    """Writes what does not change in a run."""
    config = description.config_text(request.config)
    atomic.write_atomic(folder / "config.yaml", config.encode())
    atomic.write_atomic(folder / "code.diff", origin.diff(request.targets).encode())
    settings, first = description.hparams(request), keys(request.overrides)
    monitor.describe(description.texts(request, config, environment), settings, parts.task.metrics, first)
    monitor.begin(parts.model, *parts.sample(EXAMPLES))


def _left_off(
    request: Request, claim: Claim, made: Mapping[str, Any]
) -> tuple[Saved | None, list[tuple[str, str]], list[str]]:
    """Where a run goes on, what there is to say about that, and what has changed since it began.

    If it begins, its folder is empty now.

    Raises:
        Ended: there is nothing left to do.
        Changed: it was begun by other code, or on other data.
        Failure: it had begun, and nothing that can be believed is left of it.
    """
    folder, inside = claim.folder, claim.inside
    if request.config["fresh"]:
        said = [("fresh", "over what was here")] if (inside / RECORD).exists() else []
        clear(inside)
        return None, said, []
    known = record.read(inside)
    if not known and any((inside / CHECKPOINTS).glob("step-*")):
        raise Failure(
            f"{folder}: has checkpoints but no {RECORD}, so it is unknown what they are; put it back, or "
            "fresh=true trains the run anew, over what is there"
        )
    if not known:
        clear(inside)
        return None, [], []
    differs = changes.differences(known, made)
    changed = [*differs.code, *differs.inputs]
    if ended(known):
        refuse_changed(folder, known, request, [*changed, *differs.versions])
        raise Ended(folder, ENDED[known["status"]])
    changed += ["the data are not the same"] if known["data_sha256"] != made["data_sha256"] else []
    refuse_changed(folder, known, request, changed)
    saved = Checkpoints(inside).load()
    if saved is None:
        clear(inside)
        return None, [("resume", "no checkpoint is there: from the beginning")], []
    said = [("damaged", text) for text in saved.damaged]
    said += [("resume", f"from step {saved.step}, epoch {saved.state['epoch']}")]
    changed = [*known["not_bit_exact"], *changed, *differs.versions, *differs.machine]
    said += [("", f"not bit-exact: {'; '.join(changed)}")] if changed else []
    return saved, said, changed
