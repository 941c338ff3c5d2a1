"""Trains parts without a config, from a script or a notebook."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

from sweepwise.distributed.place import place
from sweepwise.errors import UsageError, reason
from sweepwise.learner import Learner
from sweepwise.learner.fused import alone
from sweepwise.library.fitted import Fitted
from sweepwise.library.folder import Opened, begin, claimed, close
from sweepwise.library.given import remember
from sweepwise.library.start import start_of
from sweepwise.parts import Parts, set_process
from sweepwise.seed import one_at_a_time, place_generators
from sweepwise.system import progress as display
from sweepwise.system.console import at_a_prompt, in_notebook, on_terminal, wrapped
from sweepwise.system.signals import StopFlag
from sweepwise.trainer import Run
from sweepwise.trainer import fit as train
from sweepwise.trainer.protocols import NoCheckpoints, NoMonitor

TWICE_SECONDS = 3.0  # between two interrupts of which the second means the whole cell, and not only its run

_interrupted = [-TWICE_SECONDS]  # when the last run was, by the monotonic clock


@one_at_a_time
def fit(parts: Parts, folder: Path | str = "", progress: bool = True) -> Fitted:
    """Trains what `build` has built. Called again with the same parts it begins again where it first began.

    Args:
        parts: of the run; `parts.model` is trained in place, each time.
        folder: of this run alone, where its record, config.yaml, metrics.jsonl, TensorBoard's files and
            checkpoints are written, as `train.py` writes them; '': nowhere. With the folder of a run that was
            interrupted or has paused (`Settings.pause_after`), of equal parts, it goes on from the last
            checkpoint, to the same bits.
        progress: whether a notebook or a terminal shows notes and a bar. Elsewhere there is none.

    Threads that call it wait for each other, since layers draw their noise from a generator of the process.
    Ctrl-C, or a signal such as SIGTERM that has no handler, ends the training after the running step; then
    there is a checkpoint in the folder. In a notebook, IPython or an interactive Python, Ctrl-C (interrupt)
    gives what there is: a `Fitted` with the status 'interrupted' and the best weights so far; another one
    within three seconds ends the cell as well. In a script the signal acts as it would have.

    Raises:
        UsageError: the model is no longer the one that was built, the folder has another run or one that has
            ended, or torchrun has started several processes, which only `train.py` can use.
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
    _refuse_unfit(parts)
    start, shown = start_of(parts), progress and (in_notebook() or on_terminal())
    began = time.monotonic()
    stop = StopFlag(foreign=False)
    with ExitStack() as closing:
        claim = closing.enter_context(claimed(Path(folder), parts, start.fingerprint)) if folder else None
        start.bring_back(parts)
        set_process(parts.settings, parts.seeds)  # another `build` may have set others since
        if parts.generators:
            place_generators(parts.generators)
        for note in parts.notes if shown else ():
            print(wrapped("note", note), flush=True)
        learner, fused = alone(parts.learner, parts.batch(), claim.fused if claim else None)
        opened = claim.open(fused) if claim else None
        run = _run(parts, opened)
        if opened:
            close(opened, run, closing)
        closing.callback(remember, parts.model)
        _train(parts, learner, run, opened, stop, shown)
    parts.model.eval()
    if stop() and not _returns(stop.signal):
        signal.raise_signal(stop.signal)
    seconds = opened.log.fields["seconds"] if opened else time.monotonic() - began
    return Fitted(
        run.status,
        run.reason,
        run.best,
        run.metrics,
        run.final,
        run.history,
        parts.model,
        parts.notes,
        seconds,
        str(folder),
    )


def _run(parts: Parts, opened: Opened | None) -> Run:
    """The run, where it begins or goes on."""
    monitor = opened.monitor if opened else NoMonitor()
    checkpoints = opened.checkpoints if opened else NoCheckpoints()
    return Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints, parts.pause_after)


def _train(
    parts: Parts, learner: Learner, run: Run, opened: Opened | None, stop: StopFlag, shown: bool
) -> None:
    """Trains the run; whatever ends it is its status. One that can go on has its best weights."""
    try:
        step = 0
        if opened and opened.saved:
            saved, opened.saved = opened.saved, None  # frees a whole model and its optimizer state
            parts.learner.load_state_dict(0, saved.weights, saved.best, saved.state["learner"])
            run.load_state_dict(saved.state)
            step = saved.step
        elif opened:
            begin(opened, parts)
        with stop, display.progress(parts.steps, shown, step) as bar:
            train(learner, parts.data, parts.task, [run], parts.settings, bar, stop)
        if run.status in ("interrupted", "pruned"):
            parts.learner.load_best(0)
    except BaseException as error:
        run.end("failed" if isinstance(error, Exception) else "interrupted", reason(error))
        raise


def _returns(number: int) -> bool:
    """Whether a signal ends the training only, and not also what has called it."""
    now = time.monotonic()
    twice = now - _interrupted[0] < TWICE_SECONDS
    _interrupted[0] = now
    return number == signal.SIGINT and at_a_prompt() and not twice


def _refuse_unfit(parts: Parts) -> None:
    """Refuses what is not parts, and a model of which the learner trains other tensors."""
    if not isinstance(parts, Parts):
        raise UsageError([f"parts: must be what build(...) returns, not {parts!r:.40}"])
    trained = parts.learner.flat.views(parts.learner.flat.values)
    present = dict(parts.model.named_parameters())
    moved = [
        name
        for name, view in trained.items()
        if (now := present.get(name)) is None or now.data_ptr() != view.data_ptr() or not now.requires_grad
    ]
    new = [name for name, parameter in present.items() if parameter.requires_grad and name not in trained]
    if moved or new:
        raise UsageError(
            [
                f"model: {', '.join([*moved, *new])} would not be trained: since build, the model was moved, "
                "frozen, changed or given to another build; change a model before build, and fit it after"
            ]
        )
