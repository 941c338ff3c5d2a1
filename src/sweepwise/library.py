"""The same parts without a config: build them, fit them, look at them, from a script or a notebook."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import ConstantLR

from sweepwise.checkpoint import Checkpoints
from sweepwise.data import Data
from sweepwise.distributed.place import place
from sweepwise.early_stop import Best, EarlyStop
from sweepwise.early_stop.never import Never
from sweepwise.errors import UsageError, reason
from sweepwise.init import initialize_
from sweepwise.init.default import keep_
from sweepwise.monitor import Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.parts import EXAMPLES, Parts, assemble
from sweepwise.regularizer import Regularizer
from sweepwise.scheduler import Schedule
from sweepwise.seed import Seeds
from sweepwise.system import atomic
from sweepwise.system.progress import progress
from sweepwise.trainer import Run, Settings
from sweepwise.trainer import fit as train
from sweepwise.trainer.protocols import NoCheckpoints, NoMonitor

CONSTANT = partial(ConstantLR, factor=1.0, total_iters=0)
NEVER = Never()


@dataclass(frozen=True)
class Fitted:
    """A run that has ended.

    Attributes:
        status: 'finished', 'stopped early' or 'diverged'.
        reason: why it stopped; '' if it went to its end.
        best: metric, value, epoch and step of the best weights.
        metrics: the last of each, by tag; 'test/...' is measured once, with the best weights.
        final: all that the task knows to measure of the best weights, on 'val' and 'test'.
        history: the metrics of each epoch, by tag, with 'epoch' and 'step'.
        model: with the best weights, in evaluation mode.

    Example:
        >>> from sweepwise import Arrays, Settings, build, fit, split
        >>> data = split(Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), classes=0), batch_size=6)
        >>> sgd, settings = partial(torch.optim.SGD, lr=0.1), Settings(max_epochs=3, device="cpu")
        >>> fitted = fit(build(data=data, model=nn.Linear(1, 1), optimizer=sgd, settings=settings))
        >>> fitted.status, fitted.best.metric, len(fitted.history)
        ('finished', 'val/loss', 3)
    """

    status: str
    reason: str
    best: Best
    metrics: Mapping[str, float]
    final: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, float]]
    model: nn.Module


def build(
    *,
    data: Data | Callable[[], Data],
    model: nn.Module | Callable[..., nn.Module],
    optimizer: Callable[..., Any],
    init: Callable[..., Any] = keep_,
    scheduler: Callable[..., Any] = CONSTANT,
    regularizers: Sequence[Regularizer] = (),
    early_stop: EarlyStop = NEVER,
    settings: Settings = Settings(),  # noqa: B008  # frozen
    seed: int | Seeds = 0,
) -> Parts:
    """Builds a run, as `train.py` does from a config with the same parts.

    Optimizer, init and scheduler are torch's, with their options bound by `functools.partial`. They may carry
    options of what is around them as well: `partial(FlatOptimizer, optimizer, decay="all")`,
    `partial(initialize_, scheme=init, output_scale=1)`, `partial(Schedule, scheduler, warmup=2)`.

    Args:
        data: from `split`, or a function that makes it once the seeds are set.
        model: (features, outputs) -> network, or a network; that one is initialised and trained in place.
        optimizer: a torch.optim class; 'lr' must be bound unless it has a default.
        init: fills a weight tensor in place, such as `torch.nn.init.xavier_normal_`.
        scheduler: a torch scheduler's class; it moves after every epoch.
        regularizers: act in the order given.
        early_stop: when to stop. The best weights are kept in any case.
        settings: how long and on what.
        seed: of everything, or `Seeds` apart.

    Sets torch's number of threads, flushes denormal numbers and seeds the global generators, as a run does.

    Raises:
        UsageError: a part refuses what it was given.

    Example:
        >>> from sweepwise import Arrays, Settings, split
        >>> data = split(Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), classes=0), batch_size=4)
        >>> sgd, settings = partial(torch.optim.SGD, lr=0.1), Settings(max_epochs=3, device="cpu")
        >>> build(data=data, model=nn.Linear(1, 1), optimizer=sgd, settings=settings).steps  # 2 an epoch
        6
    """
    wrapped = _within(FlatOptimizer, optimizer)
    return assemble(
        settings=settings,
        seeds=Seeds(seed, seed, seed, seed) if isinstance(seed, int) else seed,
        data=(lambda: data) if isinstance(data, Data) else data,
        model=(lambda features, outputs: model) if isinstance(model, nn.Module) else model,
        init=init if _is(initialize_, init) else partial(initialize_, scheme=init),
        optimizer=wrapped,
        schedule=partial(_schedule, _within(Schedule, scheduler), _rate(wrapped.args[0])),
        regularizers=regularizers,
        early_stop=early_stop,
    )


def fit(parts: Parts, folder: Path | str = "", shown: bool = False) -> Fitted:
    """Trains what `build` has built.

    Args:
        parts: used up by it: build again to train again.
        folder: for TensorBoard, metrics.jsonl and checkpoints; '': nothing is written.
        shown: whether progress is printed.

    Raises:
        UsageError: it was started by torchrun as one of several processes, which only `train.py` can be.
        OSError: the folder cannot be written. What cannot be written after another error is a note on that.

    Example:
        >>> from sweepwise import Arrays, Settings, build, split
        >>> data = split(Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), classes=0), batch_size=6)
        >>> sgd, settings = partial(torch.optim.SGD, lr=0.25), Settings(max_epochs=60, device="cpu")
        >>> fitted = fit(build(data=data, model=nn.Linear(1, 1), optimizer=sgd, settings=settings))
        >>> round(fitted.model.weight.item(), 4), round(fitted.metrics["test/loss"], 6)  # y = x, both scaled
        (1.0, 0.0)
    """
    if (here := place()).size > 1:
        raise UsageError([f"WORLD_SIZE={here.size}: fit trains in one process; several train by train.py"])
    if folder:
        atomic.make_folder(Path(folder))
    checkpoints = Checkpoints(Path(folder)) if folder else NoCheckpoints()
    monitor = Monitor(Path(folder)) if folder else NoMonitor()
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
    with ExitStack() as closing:  # each of the two, whatever becomes of the other
        closing.push(_closing(lambda: monitor.close(run.status)))
        closing.push(_closing(checkpoints.close))
        try:
            monitor.begin(parts.model, *parts.sample(EXAMPLES))
            with progress(parts.steps, shown) as bar:
                train(parts.learner, parts.data, parts.task, [run], parts.settings, bar)
        except BaseException as error:
            run.end("failed" if isinstance(error, Exception) else "interrupted", reason(error))
            raise
    parts.model.eval()
    return Fitted(run.status, run.reason, run.best, run.metrics, run.final, run.history, parts.model)


def _closing(close: Callable[[], None]) -> Callable[[object, BaseException | None, object], None]:
    """The end of a resource: what fails there is raised, or is a note on the error that came before it."""

    def end(kind: object, before: BaseException | None, trace: object) -> None:
        try:
            close()
        except Exception as error:
            if before is None:
                raise
            before.add_note(f"besides, when the folder was closed: {reason(error)}")

    return end


def _is(envelope: Callable[..., Any], given: Callable[..., Any]) -> bool:
    return getattr(given, "func", given) is envelope


def _within(envelope: Callable[..., Any], given: Callable[..., Any]) -> "partial[Any]":
    """What is given, as a partial, with the envelope around it if it has none yet."""
    if isinstance(given, partial) and _is(envelope, given):
        return partial(envelope, *map(partial, given.args), **given.keywords)
    return partial(envelope, partial(given))


def _rate(optimizer: Callable[..., Any]) -> float:
    rate = inspect.signature(optimizer).parameters["lr"].default
    if not isinstance(rate, (int, float)):
        raise UsageError(["optimizer: must have a learning rate: partial(torch.optim.SGD, lr=0.1)"])
    return float(rate)


def _schedule(make: Callable[..., Schedule], lr: float, steps: int, steps_per_epoch: int) -> Schedule:
    return make(lr=lr, steps=steps, steps_per_epoch=steps_per_epoch)
