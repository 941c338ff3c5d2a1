"""Builds and fits the parts of a run without a config, from a script or a notebook."""

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
        reason: why it stopped before its end; '' if it did not.
        best: metric, value, epoch and step of the best weights.
        metrics: the last value of each, by tag; 'test/...' is measured once, with the best weights.
        final: all metrics of the task, measured with the best weights, on 'val' and 'test'.
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
    """Builds a run as `train.py` does from a config with the same parts.

    Optimizer, init and scheduler are torch's, with their options bound by `functools.partial`. Options of our
    wrappers around them can be bound too: `partial(FlatOptimizer, optimizer, decay="all")`,
    `partial(initialize_, scheme=init, output_scale=1)`, `partial(Schedule, scheduler, warmup=2)`.

    Args:
        data: from `split`, or a function that makes it once the seeds are set.
        model: (features, outputs) -> network, or a network, which is initialised and trained in place.
        optimizer: a torch.optim class; its 'lr' must be bound unless it has a default.
        init: fills a weight tensor in place, such as `torch.nn.init.xavier_normal_`.
        scheduler: a torch scheduler class; it is stepped after every epoch.
        regularizers: they act in this order.
        early_stop: when to stop. The best weights are kept in any case.
        settings: length of the training, device and precision.
        seed: one seed for everything, or `Seeds`.

    Sets torch's number of threads, flushes denormal numbers and seeds the global generators, as a run does.

    Raises:
        UsageError: a part cannot be built with its values.

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
        schedule=partial(_schedule, _within(Schedule, scheduler), _default_lr(wrapped.args[0])),
        regularizers=regularizers,
        early_stop=early_stop,
    )


def fit(parts: Parts, folder: Path | str = "", shown: bool = False) -> Fitted:
    """Trains what `build` has built.

    Args:
        parts: can be trained once; build them again to train again.
        folder: where TensorBoard's files, metrics.jsonl and checkpoints are written; '': nowhere.
        shown: whether to print progress.

    Raises:
        UsageError: torchrun has started several processes, which only `train.py` can use.
        OSError: the folder cannot be written. After another error, this is only a note on that error.

    Example:
        >>> from sweepwise import Arrays, Settings, build, split
        >>> data = split(Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), classes=0), batch_size=6)
        >>> sgd, settings = partial(torch.optim.SGD, lr=0.25), Settings(max_epochs=60, device="cpu")
        >>> fitted = fit(build(data=data, model=nn.Linear(1, 1), optimizer=sgd, settings=settings))
        >>> round(fitted.model.weight.item(), 4), round(fitted.metrics["test/loss"], 6)  # y = x, both scaled
        (1.0, 0.0)
    """
    if (here := place()).size > 1:
        raise UsageError(
            [f"WORLD_SIZE={here.size}: must be 1 for fit; to train with several processes, use train.py"]
        )
    if folder:
        atomic.make_folder(Path(folder))
    checkpoints = Checkpoints(Path(folder)) if folder else NoCheckpoints()
    monitor = Monitor(Path(folder)) if folder else NoMonitor()
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
    with ExitStack() as closing:  # closes each of the two, even if closing the other fails
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
    """An exit callback that closes a file; if that fails after another error, it is a note on that one."""

    def end(kind: object, before: BaseException | None, trace: object) -> None:
        try:
            close()
        except Exception as error:
            if before is None:
                raise
            before.add_note(f"also, when the folder was closed: {reason(error)}")

    return end


def _is(envelope: Callable[..., Any], given: Callable[..., Any]) -> bool:
    return getattr(given, "func", given) is envelope


def _within(envelope: Callable[..., Any], given: Callable[..., Any]) -> "partial[Any]":
    """A partial of the envelope around what is given, unless that is one already."""
    if isinstance(given, partial) and _is(envelope, given):
        return partial(envelope, *map(partial, given.args), **given.keywords)
    return partial(envelope, partial(given))


def _default_lr(optimizer: Callable[..., Any]) -> float:
    lr = inspect.signature(optimizer).parameters["lr"].default
    if not isinstance(lr, (int, float)):
        raise UsageError(["optimizer: needs a learning rate: partial(torch.optim.SGD, lr=0.1)"])
    return float(lr)


def _schedule(make: Callable[..., Schedule], lr: float, steps: int, steps_per_epoch: int) -> Schedule:
    return make(lr=lr, steps=steps, steps_per_epoch=steps_per_epoch)
