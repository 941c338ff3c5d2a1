"""Builds the parts of a run without a config, from a script or a notebook."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import ConstantLR

from sweepwise.arguments import for_assembly
from sweepwise.conflicts import refuse_conflicts
from sweepwise.data import Data
from sweepwise.early_stop import EarlyStop
from sweepwise.early_stop.never import Never
from sweepwise.errors import UsageError
from sweepwise.init.default import keep_
from sweepwise.library.described import describe, describe_data, describe_model
from sweepwise.library.given import GivenNetwork, remember
from sweepwise.parts import Parts, assemble
from sweepwise.regularizer import Regularizer
from sweepwise.seed import Seeds, generators, one_at_a_time
from sweepwise.trainer import Settings

CONSTANT = partial(ConstantLR, factor=1.0, total_iters=0)
NEVER = Never()


@one_at_a_time
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
    pretrained: bool = False,
) -> Parts:
    """Builds a run as `train.py` does from a config with the same parts, with the same checks.

    Optimizer, init and scheduler are torch's, with their options bound by `functools.partial`. Options of our
    wrappers around them can be bound too: `partial(FlatOptimizer, optimizer, decay="all")`,
    `partial(initialize_, scheme=init, output_scale=1)`, `partial(Schedule, scheduler, warmup=2)`.

    What is given is copied, but for data and networks: one rule, regularizer or scheme may serve many runs,
    and a run changes only its own copies, `parts.early_stop` and `parts.regularizers`.

    A network that is given was made before the seed was set. If its weights are a first draw of torch's
    layers they are drawn again, from the seed, and equal those of its class. Weights that were trained,
    loaded, frozen or initialised by its own code stay. `parts.notes` says which. A network that a run has
    trained starts for the next one as it was given for the first, unless its weights were changed since, or
    `pretrained` is true.

    Args:
        data: from `split`, or a function that makes it once the seeds are set.
        model: a class or function that makes a network: it takes no arguments, or `features` and `outputs`,
            the shape of an example and a number (or two of other names); or a network, which is trained in
            place.
        optimizer: a torch.optim class; its 'lr' must be bound unless it has a default.
        init: fills a weight tensor in place, such as `torch.nn.init.xavier_normal_`.
        scheduler: a torch scheduler class; it is stepped after every epoch. Where it counts epochs, "30%" is
            a share of those after the warm-up, and "horizon" all of them: `partial(StepLR, step_size="30%")`.
        regularizers: they act in this order.
        early_stop: when to stop. The best weights are kept in any case.
        settings: length of the training, device and precision.
        seed: one seed for everything, or `Seeds`.
        pretrained: whether a network keeps the weights that it has now, whatever they are.

    Sets torch's number of threads, flushes denormal numbers and seeds the global generators, as a run does.

    Raises:
        UsageError: a part cannot be built with its values, or parts cannot be combined.

    Example:
        >>> from sweepwise import Arrays, Settings, split
        >>> data = split(Arrays("line", np.arange(10.0)[:, None], np.arange(10.0), classes=0), batch_size=4)
        >>> sgd, settings = partial(torch.optim.SGD, lr=0.1), Settings(max_epochs=3, device="cpu")
        >>> build(data=data, model=nn.Linear(1, 1), optimizer=sgd, settings=settings).steps  # 2 an epoch
        6
    """
    arguments = for_assembly(
        data=data,
        model=model,
        optimizer=optimizer,
        init=init,
        scheduler=scheduler,
        regularizers=regularizers,
        early_stop=early_stop,
        settings=settings,
        seed=seed,
    )
    given = _given(model, init, pretrained)
    names = ("init", "optimizer", "regularizers", "early_stop", "settings", "seeds")
    config = describe(scheduler=scheduler, **{name: arguments[name] for name in names})
    parts = assemble(**arguments | ({"model": given} if given else {}))
    chosen = {"scheduler": scheduler is not CONSTANT, "early_stop": early_stop is not NEVER}
    parts = refuse_conflicts(parts, [name for name, own in chosen.items() if own])
    remember(parts.model)
    config |= {"data": describe_data(parts.data), "model": describe_model(model, parts.model)}
    notes = [*([given.note] if given and given.note else []), *parts.notes]
    return replace(parts, generators=generators(), config=config, notes=notes)


def _given(model: object, init: Callable[..., Any], pretrained: bool) -> GivenNetwork | None:
    """A network that was given; None for what makes one."""
    if isinstance(model, nn.Module):
        return GivenNetwork(model, init, pretrained)
    if pretrained:
        raise UsageError(
            ["pretrained=True: is for a network that is given; what a class or function makes stays as it is"]
        )
    return None
