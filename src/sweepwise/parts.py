"""Builds the parts of a run, each from those before it, and writes nothing.

`run.from_config` chooses the parts by a config, `library` without one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sweepwise.data import Data
from sweepwise.distributed.place import place
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.early_stop import EarlyStop
from sweepwise.errors import UsageError
from sweepwise.learner.first_passes import Tried, try_passes
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.fused.trial import TRIAL_EXAMPLES
from sweepwise.learner.materialise import materialise_
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.parallel.fsdp_limits import refuse_by_tensor, refuse_unshardable
from sweepwise.learner.passes import refuse_pieces
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.scheduler import Schedule
from sweepwise.seed import Seeds, seed_torch
from sweepwise.task import Task, task_of
from sweepwise.trainer import Settings
from sweepwise.trainer.never_acts import never_acting

Built = TypeVar("Built")

EXAMPLES = 256  # of the training part, for initialisation, diagnosis and monitor
PARALLEL = 2**15  # numbers from which on torch gives an operation one more thread


@dataclass(frozen=True)
class Parts:
    """Every part of a run, built and checked.

    Attributes:
        settings: length of the training, device and precision.
        seeds: the run's seeds.
        data: the data set, on its device.
        task: loss and metrics.
        model: initialised, on its device; if it will be sharded, whole and on the CPU until the first step.
        init: which rule filled each parameter, by name.
        initialize: (model, examples=, seed=) initialises a model as this one was.
        schedule: the learning rate of every step.
        regularizers: of this run alone, in the order in which they act.
        early_stop: when to stop; of this run alone.
        learner: holds the model's parameters and takes steps.
        make_learner: makes it, or another one of the model as it is then.
        steps: how many steps the whole training has.
        taken: options whose values the length of the training has decided, by the keys of a config.
        notes: what a person should know before the training.
        generators: states of the global generators that it goes on from; empty if it goes on at once.
        config: what was given to `build`, as a config would say it; empty: the run has a config.
    """

    settings: Settings
    seeds: Seeds
    data: Data
    task: Task
    model: nn.Module
    init: Mapping[str, str]
    initialize: Callable[..., dict[str, str]]
    schedule: Schedule
    regularizers: Sequence[Regularizer]
    early_stop: EarlyStop
    learner: ModuleLearner
    make_learner: "partial[ModuleLearner]"
    steps: int
    taken: Mapping[str, Any]
    notes: Sequence[str]
    generators: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pause_after(self) -> int | None:
        """The number of epochs after which the run pauses; None: it does not."""
        return self.settings.pauses_after(validated=len(self.data.validation.y) > 0)

    @property
    def logged(self) -> list[str]:
        """The tags of the metrics of an epoch, on the training part and on the validation part, if any."""
        families = ("train", "val") if len(self.data.validation.y) else ("train",)
        return [f"{family}/{name}" for family in families for name in self.task.metrics]

    @property
    def parameters(self) -> int:
        """How many parameters the model has, those that are frozen included; before it is sharded."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def sample(self, examples: int) -> tuple[Tensor, Tensor]:
        """The first examples of the training part, x and y, on the model's device."""
        device = next(self.model.parameters()).device
        x, y = self.data.sample(examples)
        return x.to(device), y.to(device)

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
    schedule: Callable[..., Schedule],
    regularizers: Sequence[Regularizer],
    early_stop: EarlyStop,
    world: World = SINGLE_PROCESS,
    tried: Tried | None = None,
) -> Parts:
    """Builds all parts in the order of a run.

    Args:
        settings: length of the training, device and precision.
        seeds: the run's; applied before any random number is drawn.
        data: loads the data set.
        model: (features, outputs) -> network.
        init: (model, examples=, seed=) -> which rule filled each parameter; `initialize_` with a scheme
            bound.
        optimizer: `FlatOptimizer` with the torch optimizer bound.
        schedule: (steps, steps per epoch, more of `scheduler.Length`) -> the learning rates.
        regularizers: they act in this order.
        early_stop: when to stop.
        world: the processes that train the run.
        tried: the model of a run that differs from this one in numbers only, once that is built.

    Raises:
        UsageError: a part cannot be built with its values; the message begins with its group.
    """
    device = _device(settings, world)
    set_process(settings, seeds)
    split = build_part("data", data)
    seed_torch(seeds.init)  # again, since loading the data may have drawn from it
    network = build_part("model", partial(model, split.features, split.outputs))
    if not isinstance(network, nn.Module):
        raise UsageError([f"model: must be a torch.nn.Module, not a {type(network).__name__}"])
    examples, _ = split.sample(EXAMPLES)
    build_part("model", partial(materialise_, network, examples))
    rules = build_part("init", partial(init, network, examples=examples, seed=seeds.init))
    sharded = world.size > 1 and settings.parallel == "fsdp"
    split, network = split.to(device), network if sharded else network.to(device)
    for regularizer in regularizers:
        build_part("regularizer", partial(regularizer.prepare_, network, split.features, split.classes))
    task = build_part(
        "trainer",
        partial(
            task_of,
            split.classes,
            split.target_std,
            labels=split.train.y,
            metrics=settings.metrics,
            class_weights=settings.class_weights,
        ),
    )

    def flat_optimizer(**row: Any) -> FlatOptimizer:
        flat = build_part("optimizer", partial(optimizer, **row))
        if sharded:
            refuse_by_tensor(flat)
        return flat

    sizes = split.batch_size, len(split.train.y)
    build_part("trainer", partial(refuse_pieces, settings.accumulate, *sizes))
    if world.size > 1:
        from sweepwise.learner.parallel.ddp import refuse_shares

        options = world.size, settings.accumulate, settings.compile
        build_part("data", partial(refuse_shares, network, *options, *sizes))
    flatten: Callable[[nn.Module], Any] = FlatParameters
    if sharded:
        from sweepwise.learner.parallel.fsdp import ShardedParameters  # imports torch's distributed tensors

        refuse_unshardable(network, regularizers, settings.precision, settings.compile)
        flatten = partial(ShardedParameters, world=world, device=device)
    make_learner = partial(
        ModuleLearner,
        network,
        task,
        flat_optimizer,
        regularizers,
        seeds.noise,
        flatten=flatten,
        accumulate=settings.accumulate,
        ema=settings.ema,
        precision=settings.precision,
        compile=settings.compile,
        world=world,
    )
    learner = build_part("model", make_learner)
    if world.leads or not sharded:
        try_passes(learner, split, settings.accumulate, world.size, tried)
    steps = settings.steps(split.steps_per_epoch)
    rates, taken = settled_rates(settings, split.steps_per_epoch, schedule, early_stop)
    notes = [*split.notes, *_begun_threads(settings), *_without_rule(rules)]
    notes += _unused_seeds(seeds, split, learner)
    validated = len(split.validation.y) > 0
    kind = type(learner.optimizer.optimizer)
    length = split.steps_per_epoch, validated
    notes += notes_on_numbers(settings, rates, kind, regularizers, early_stop, *length)
    return Parts(
        settings,
        seeds,
        split,
        task,
        network,
        rules,
        init,
        rates,
        regularizers,
        early_stop,
        learner,
        make_learner,
        steps,
        taken,
        notes,
    )


def settled_rates(
    settings: Settings,
    steps_per_epoch: int,
    schedule: Callable[..., Schedule],
    early_stop: EarlyStop,
) -> tuple[Schedule, dict[str, Any]]:
    """The rates, and which options have taken their values from the length of the training.

    A plateau waits for less than an early stopping whose patience is set. One that is not is told to wait for
    the warm-up, and for the first drop of a plateau.
    """
    steps = settings.steps(steps_per_epoch)
    every, settle = settings.validate_every, getattr(early_stop, "settle", None)
    watched = {}
    if settle and getattr(early_stop, "chosen", False) and hasattr(early_stop, "patience"):
        watched = {"watched": early_stop.metric, "patience": early_stop.patience}
    make = partial(schedule, steps, steps_per_epoch, validate_every=every, **watched)
    rates = build_part("scheduler", make)
    least = rates.warmup_steps // steps_per_epoch
    if rates.plateau is not None and rates.metric == early_stop.metric:
        least = max(least, rates.plateau.patience + 1 + every)
    own = settle(-(-steps // steps_per_epoch), least) if settle else {}
    return rates, {**rates.taken, **own}


def notes_on_numbers(
    settings: Settings,
    rates: Schedule,
    optimizer: Callable[..., object],
    regularizers: Sequence[Regularizer],
    early_stop: EarlyStop,
    steps_per_epoch: int,
    validated: bool,
) -> list[str]:
    """What a person should know of a schedule and of settings that never act; see `never_acting`."""
    steps = settings.steps(steps_per_epoch)
    rules = settings, rates, regularizers, early_stop
    length = steps, steps_per_epoch
    return rates.notes() + never_acting(*rules, *length, validated=validated, optimizer=optimizer)


def set_process(settings: Settings, seeds: Seeds) -> None:
    """Sets what all runs of a process share: torch's threads and kernels, and the global generators."""
    torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)  # else vanishing moments of dead units make Adam half as fast
    seeds.apply()


def _begun_threads(settings: Settings) -> list[str]:
    """A note where torch had begun threads before `set_process`: these keep denormal numbers."""
    if settings.threads == 1:
        return []
    halved = torch.full((PARALLEL * settings.threads,), torch.finfo(torch.float32).tiny) * 0.5
    if not halved.any():
        return []
    return [
        f"trainer.threads={settings.threads}: torch had begun its threads before, and these do not flush "
        "denormal numbers, so the last digits may differ from those of train.py; call "
        "torch.set_flush_denormal(True) before torch's first operation, or use trainer.threads=1"
    ]


def build_part(key: str, build: Callable[[], Built]) -> Built:
    """Builds a part; an error of its constructor becomes a fault of its group.

    Raises:
        UsageError: the constructor raised it, or a ValueError, TypeError or ArithmeticError.
    """
    try:
        return build()
    except UsageError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        text = str(error).partition("\n")[0]  # torch appends stack frames
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
    """The GPU of one of several processes, which becomes torch's default GPU in this process."""
    gpus = torch.cuda.device_count()
    if device.index is not None:
        raise UsageError(
            [f"trainer.device={device}: must be cuda or auto, since each process takes a GPU of its own"]
        )
    if gpus > 1 and local_rank >= gpus:
        raise UsageError(
            [
                f"LOCAL_RANK={local_rank}: must be below the {gpus} GPUs of this machine, since each process "
                "takes a GPU of its own; start fewer processes on it"
            ]
        )
    own = torch.device("cuda", local_rank % gpus)  # a cluster may show each process only its own GPU
    torch.cuda.set_device(own)
    return own


def _unused_seeds(seeds: Seeds, data: Data, learner: ModuleLearner) -> list[str]:
    """Notes about seeds that were set apart, where nothing is drawn from them."""
    notes = []
    if seeds.data != seeds.value and not data.shuffle:
        notes.append(
            f"seed.data={seeds.data} never acts with data.shuffle=false: the order is always the same"
        )
    if seeds.noise != seeds.value and not learner.noise.wanted and not learner.transforms:
        notes.append(
            f"seed.noise={seeds.noise} never acts: neither the model nor a regularizer draws random numbers"
        )
    return notes


def _without_rule(init: Mapping[str, str]) -> list[str]:
    """A note about the parameters that initialisation did not fill."""
    names = [name for name, rule in init.items() if "no rule" in rule]
    return [f"init: has no rule for {', '.join(names)}, which keep the model's own values"] if names else []
