"""A run put together: each part is built from those before it, forwards, whoever has chosen them.

Nothing is written here. A config chooses the parts by `run.py`; a notebook does without one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sweepwise.data import Data
from sweepwise.distributed.place import place
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.early_stop import EarlyStop
from sweepwise.errors import UsageError
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.fused.trial import TRIAL_EXAMPLES
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.parallel.fsdp_limits import refuse_by_tensor, refuse_unshardable
from sweepwise.learner.passes import refuse_pieces
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.scheduler import Schedule
from sweepwise.seed import Seeds
from sweepwise.task import Task, task_of
from sweepwise.trainer import Settings

Built = TypeVar("Built")

EXAMPLES = 256  # of the training part, shown to what looks at data before the training


@dataclass(frozen=True)
class Parts:
    """Every part of a run, built and checked.

    Attributes:
        settings: how long and on what.
        seeds: of the run.
        data: on its device.
        task: loss and metrics.
        model: initialised, on its device; if it will be sharded, whole and on the CPU until the first step.
        init: what filled each parameter, by name.
        initialize: (model, examples=, seed=) did it, and can do it to a copy.
        schedule: the rate of every step.
        early_stop: when to stop.
        learner: holds the model's parameters and takes steps.
        steps: of the whole training.
        notes: what a person should know before it starts.
    """

    settings: Settings
    seeds: Seeds
    data: Data
    task: Task
    model: nn.Module
    init: Mapping[str, str]
    initialize: Callable[..., dict[str, str]]
    schedule: Schedule
    early_stop: EarlyStop
    learner: ModuleLearner
    steps: int
    notes: Sequence[str]

    def sample(self, examples: int) -> tuple[Tensor, Tensor]:
        """The first examples of the training part, x and y, where the model is."""
        home = next(self.model.parameters()).device
        x, y = self.data.sample(examples)
        return x.to(home), y.to(home)

    def batch(self) -> Tensor:
        """The inputs of a batch as in training, with `TRIAL_EXAMPLES` to `EXAMPLES` examples."""
        return self.sample(min(EXAMPLES, max(TRIAL_EXAMPLES, self.data.batch_size)))[0]


def assemble(
    *,
    settings: Settings,
    seeds: Seeds,
    data: Callable[[], Data],
    model: Callable[..., nn.Module],
    init: Callable[..., dict[str, str]],
    optimizer: Callable[..., FlatOptimizer],
    schedule: Callable[[int, int], Schedule],
    regularizers: Sequence[Regularizer],
    early_stop: EarlyStop,
    world: World = SINGLE_PROCESS,
) -> Parts:
    """Builds all parts in the order of a run.

    Args:
        settings: how long and on what.
        seeds: of the run; applied before anything is drawn.
        data: loads the data set.
        model: (features, outputs) -> network.
        init: (model, examples=, seed=) -> what filled each parameter; `initialize_` with a scheme bound.
        optimizer: `FlatOptimizer` with the torch optimizer bound.
        schedule: (steps, steps per epoch) -> the rates.
        regularizers: act in the order given.
        early_stop: when to stop.
        world: of the processes that train the run together.

    Raises:
        UsageError: a part refuses what it was given; the message begins with its group.
    """
    device = _device(settings, world)
    torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)  # else the moments of dead units, as they die away, slow Adam down by half
    seeds.apply()
    split = built("data", data)
    torch.manual_seed(seeds.init)  # once more: the data may have drawn from it
    network = built("model", partial(model, split.features, split.outputs))
    examples, _ = split.sample(EXAMPLES)
    filled = built("init", partial(init, network, examples=examples, seed=seeds.init))
    sharded = world.size > 1 and settings.parallel == "fsdp"
    split, network = split.to(device), network if sharded else network.to(device)
    for regularizer in regularizers:
        built("regularizer", partial(regularizer.prepare_, network, split.features, split.classes))
    kind = partial(task_of, split.classes, split.target_std, labels=split.train.y)
    chosen = partial(kind, metrics=settings.metrics, class_weights=settings.class_weights)
    task = built("trainer", chosen)

    def stepping(**row: Any) -> FlatOptimizer:
        found = built("optimizer", partial(optimizer, **row))
        if sharded:
            refuse_by_tensor(found)
        return found

    cut = partial(refuse_pieces, network, settings.accumulate, split.batch_size, len(split.train.y))
    built("trainer", cut)
    if world.size > 1:
        from sweepwise.learner.parallel.ddp import refuse_shares

        shared = partial(refuse_shares, network, world.size, settings.accumulate, settings.compile)
        built("data", partial(shared, split.batch_size, len(split.train.y)))
    flatten: Callable[[nn.Module], Any] = FlatParameters
    if sharded:
        from sweepwise.learner.parallel.fsdp import ShardedParameters  # imports torch's distributed tensors

        refuse_unshardable(network, regularizers, settings.precision, settings.compile)
        flatten = partial(ShardedParameters, world=world, device=device)
    learner = built(
        "model",
        partial(
            ModuleLearner,
            network,
            task,
            stepping,
            regularizers,
            seeds.noise,
            flatten=flatten,
            accumulate=settings.accumulate,
            ema=settings.ema,
            precision=settings.precision,
            compile=settings.compile,
            world=world,
        ),
    )
    steps = settings.steps(split.steps_per_epoch)
    rates = built("scheduler", partial(schedule, steps, split.steps_per_epoch))
    notes = [*split.notes, *_left_as_built(filled), *rates.notes()]
    return Parts(
        settings, seeds, split, task, network, filled, init, rates, early_stop, learner, steps, notes
    )


def built(key: str, build: Callable[[], Built]) -> Built:
    """Builds a part; what its constructor refuses is a fault of its group."""
    try:
        return build()
    except UsageError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        text = str(error).partition("\n")[0]  # torch appends frames of its own
        raise UsageError([text if text.startswith(key) else f"{key}: {text}"]) from error


def _device(settings: Settings, world: World) -> torch.device:
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and world.size > 1:
            device = _own_gpu(device, place().local_rank)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError([f"trainer.device={settings.device}: cannot be used here ({reason})"]) from error
    return device


def _own_gpu(device: torch.device, local_rank: int) -> torch.device:
    """The GPU of one of several processes; from now on the one that torch takes where none is named."""
    gpus = torch.cuda.device_count()
    if device.index is not None:
        raise UsageError(
            [f"trainer.device={device}: must be cuda or auto, as each process takes a GPU of its own"]
        )
    if gpus > 1 and local_rank >= gpus:
        raise UsageError(
            [f"LOCAL_RANK={local_rank}: needs a GPU of its own, and this machine shows {gpus}; start fewer"]
        )
    own = torch.device("cuda", local_rank % gpus)  # a cluster may show each process its own one only
    torch.cuda.set_device(own)
    return own


def _left_as_built(init: Mapping[str, str]) -> list[str]:
    left = [name for name, rule in init.items() if "no rule" in rule]
    return [f"init: no rule for {', '.join(left)}: left as the model built them"] if left else []
