"""Builds a run's network again, and gives it the weights of a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sweepwise.config.calling import called_with
from sweepwise.config.groups import GIVEN
from sweepwise.config.schema import bind
from sweepwise.errors import Failure, UsageError, explained, reason
from sweepwise.learner.ema import AVERAGE
from sweepwise.learner.flat import trainable
from sweepwise.learner.untrained import Untrained
from sweepwise.parts import build_part
from sweepwise.predict.kept import Computing
from sweepwise.regularizer import Regularizer
from sweepwise.seed import same_generators_after, seed_torch

CPU = torch.device("cpu")


def build_network(
    folder: Path,
    computing: Computing,
    features: tuple[int, ...],
    classes: int,
    model: nn.Module | Callable[..., nn.Module] | None,
    regularizers: Sequence[Regularizer],
) -> nn.Module:
    """The network of a run, untrained, on the CPU; the generators stay as they are.

    Args:
        folder: the run's, for messages.
        computing: what it has kept.
        features: shape of an example.
        classes: their number; 0: regression.
        model: of a run that was built in Python, as `build` was given it; it is copied.
        regularizers: likewise; some change the network.

    Raises:
        UsageError: it cannot be built.
        Failure: the same, for want of memory or of what its code needs.
    """
    if not (model is None or callable(model)):
        raise UsageError([f"model={model!r}: must be a network, or a function that makes one"])
    if model is None:
        if computing.config is None:
            raise UsageError(
                [f"{folder}: was trained from Python, so its network is not known; give model=, as build was"]
            )
        model, regularizers = _bound(computing.config)
    try:
        with same_generators_after(CPU):
            seed_torch(computing.init_seed)
            if isinstance(model, nn.Module):
                network = copy.deepcopy(model).to(CPU)
            else:
                network = build_part("model", partial(called_with(model), features, max(classes, 1)))
            for regularizer in regularizers:
                build_part("regularizer", partial(regularizer.prepare_, network, features, classes))
    except (RuntimeError, MemoryError) as error:
        raise explained(error) or Failure(
            f"{folder}: its network cannot be built: {reason(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise UsageError([f"model: must be a torch.nn.Module, not a {type(network).__name__}"])
    return network.eval()


def _bound(config: Mapping[str, Any]) -> tuple[Callable[..., nn.Module], list[Regularizer]]:
    faults: list[str] = []
    model = bind("model", config["model"], faults, given=GIVEN["model"])
    chosen = [bind(f"regularizer.{name}", node, faults) for name, node in config["regularizer"].items()]
    if faults:
        raise UsageError(faults)
    return model.target, [own.target() for own in chosen]


@torch.no_grad()
def load_weights(folder: Path, network: nn.Module, weights: Mapping[str, Any], *, average: bool) -> None:
    """Gives a network the weights of a checkpoint.

    Args:
        folder: the run's, for messages.
        network: untrained.
        weights: of the checkpoint.
        average: whether the moving averages in it are meant, where it holds both.

    Raises:
        Failure: they are those of another network.
    """
    averages = {name.removeprefix(AVERAGE): own for name, own in weights.items() if name.startswith(AVERAGE)}
    plain = {name: own for name, own in weights.items() if not name.startswith(AVERAGE)}
    plain |= averages if average else {}
    weighed, rest = trainable(network)
    trained = weighed | rest
    others = {name: value for name, value in plain.items() if name not in trained}
    untrained = Untrained(network, trained)
    differing = [n for n, own in trained.items() if n not in plain or plain[n].shape != own.shape]
    if differing := [*differing, *untrained.misfits(others)]:
        raise Failure(
            f"{folder}: its weights are those of another network, in {', '.join(sorted(differing)[:5])}; has "
            "the code of the model changed since?"
        )
    untrained.restore_(others)
    for name, parameter in trained.items():
        parameter.copy_(plain[name])


def device_of(computing: Computing, device: str | torch.device | None) -> torch.device:
    """The device that a person has named, or that of the run; the CPU if that is not here.

    Raises:
        UsageError: the one that was named cannot be used.
    """
    try:
        chosen = torch.device(computing.device if device is None else device)
        torch.empty(0, device=chosen).cpu()  # 'meta' holds no values
    except (RuntimeError, AssertionError) as error:
        if device is None:
            return CPU
        raise UsageError([f"device={device}: cannot be used here ({str(error).splitlines()[0]})"]) from error
    return chosen


@contextmanager
def as_in_the_run(computing: Computing, device: torch.device) -> Iterator[None]:
    """Within it torch computes as in the run: threads, denormal numbers, kernels; then as before."""
    threads, flushed = torch.get_num_threads(), _flushes_denormal()
    cudnn = torch.backends.cudnn
    kernels = cudnn.deterministic, cudnn.benchmark
    refused = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(computing.threads)
    torch.set_flush_denormal(True)
    if device.type == "cuda":
        cudnn.deterministic, cudnn.benchmark = computing.deterministic, False
        if refused != computing.deterministic:
            torch.use_deterministic_algorithms(computing.deterministic)
    try:
        with torch.set_grad_enabled(computing.gradients):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)
        cudnn.deterministic, cudnn.benchmark = kernels
        if torch.are_deterministic_algorithms_enabled() != refused:
            torch.use_deterministic_algorithms(refused)


def _flushes_denormal() -> bool:
    """Whether denormal numbers count as 0 in this thread; torch cannot be asked."""
    least = torch.tensor([2.0**-1040], dtype=torch.float64)
    return not Tensor.add(least, least).any().item()
