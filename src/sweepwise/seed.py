"""The random number generators of a run, and their seeds.

There are three streams, which may have separate seeds: the order of the data, the initial weights, and the
noise during training (dropout). Order and noise are pure functions of (seed, epoch) and (seed, step), so
that neither validation nor logging, nor another draw anywhere, can shift them.
"""

import functools
import os
import random
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked

_MASK = 2**64 - 1

Seed = Annotated[int, Range(0, 2**32 - 1)]
Given = ParamSpec("Given")
Returned = TypeVar("Returned")

_in_use = threading.RLock()  # by what seeds the global generators and draws from them


@checked("seed")
@dataclass(frozen=True)
class Seeds:
    """The seeds of one run, each from 0 to 2**32 - 1 (numpy's limit).

    Args:
        value: the run's seed; the others follow it unless they are given.
        data: the order of the training examples.
        init: the initial weights.
        noise: what is drawn during training (dropout).
        deterministic: refuse kernels that sum in a varying order. On a CPU with a fixed thread count results
            repeat without it; on a GPU it costs speed and some operations raise because they have no
            deterministic kernel.

    Source: Bouthillier et al., Accounting for Variance in Machine Learning Benchmarks, arXiv:2103.03098
    (why the sources of variance have separate seeds).

    Example:
        >>> seeds = Seeds(1, data=1, init=2, noise=1)
        >>> seeds.apply()
        >>> torch.initial_seed()  # of the initial weights
        2
    """

    value: Seed
    data: Seed
    init: Seed
    noise: Seed
    deterministic: bool = False

    def apply(self) -> None:
        """Seeds python's, numpy's and torch's generators (CPU and every GPU), and sets the kernels.

        torch's generator gets the seed for the initial weights: a model that is built next draws them.
        """
        seed_globals(self.value)
        seed_torch(self.init)
        if self.deterministic:
            # Read when cuBLAS starts, so it must stand before the first matrix product on a GPU.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if torch.are_deterministic_algorithms_enabled() != self.deterministic:
            torch.use_deterministic_algorithms(self.deterministic)  # imports torch._dynamo, 1.6 s
        torch.backends.cudnn.deterministic = self.deterministic
        torch.backends.cudnn.benchmark = False


def one_at_a_time(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """A decorator for what seeds the global generators and draws from them: threads wait for each other.

    Layers draw their noise from torch's global generator, so two trainings at once would draw each other's.

    Example:
        >>> @one_at_a_time
        ... def drawn(seed):
        ...     return torch.manual_seed(seed).initial_seed()
        >>> drawn(1)
        1
    """

    @functools.wraps(function)
    def waiting(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        with _in_use:
            return function(*args, **kwargs)

    return waiting


def seed_globals(value: Seed) -> None:
    """Seeds python's, numpy's and torch's global generators."""
    random.seed(value)
    np.random.seed(value)
    seed_torch(value)


def seed_torch(value: int) -> None:
    """`torch.manual_seed`, but of the devices that are there only: for others torch formats its stack.

    Args:
        value: a whole number in [0, 2**63).
    """
    torch.default_generator.manual_seed(value)
    device = _accelerator()
    if device == "cuda":
        torch.cuda.manual_seed_all(value)
    elif device:
        torch.manual_seed(value)


@functools.cache  # asking the driver takes longer than seeding
def _accelerator() -> str:
    """The kind of the devices beside the CPU that torch finds here; '' if there are none."""
    device = torch.accelerator.current_accelerator(check_available=True)
    return "" if device is None else device.type


def stream(*position: int) -> int:
    """A seed for one position of a stream, such as (seed, step).

    Neighbouring positions give unrelated values, which seed + step would not: they are combined by the
    finalizer of SplitMix64.

    Args:
        position: whole numbers in [0, 2**64).

    Returns:
        A whole number in [0, 2**63).

    Source: Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators, 2014, figure 16.
    """
    state = 0
    for number in position:
        state = ((state ^ number) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def draws(model: nn.Module) -> bool:
    """Whether a forward pass in training may draw random numbers.

    For torch's own layers this is known; a module of any other class may draw.
    """
    for module in model.modules():
        rate = getattr(module, "p", 0) if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0)
        random_by_kind = isinstance(module, (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d))
        foreign = not type(module).__module__.startswith("torch.nn.modules.")
        if foreign or random_by_kind or isinstance(rate, nn.Module) or rate:
            return True
    return False


def has_own_code(model: nn.Module) -> bool:
    """Whether a model has modules of a class that is neither torch's nor ours."""
    return any(not type(module).__module__.startswith(("torch.", "sweepwise.")) for module in model.modules())


class Noise:
    """Seeds generators for the noise of a step: torch's default one of a device, and one for each place.

    Args:
        seed: of the stream.
        model: whose layers draw.
        device: whose generator they draw from.
        rank: of the process, if several train one model: each draws other numbers for its examples.

    Attributes:
        wanted: whether the layers may draw random numbers.
    """

    def __init__(self, seed: int, model: nn.Module, device: torch.device, rank: int = 0) -> None:
        self._seed = seed
        self._rank = (rank,) if rank else ()
        self.wanted = draws(model)
        self._first = 0
        self._ahead: list[int] = []
        self._places: dict[str, tuple[torch.Generator, int]] = {}
        index = device.index or 0
        self._generator = (
            torch.cuda.default_generators[index] if device.type == "cuda" else torch.default_generator
        )

    def begin(self, step: int) -> None:
        """Called before the forward pass of every step."""
        if step == 0:  # modules imported since `Seeds.apply` may have drawn numbers, as rich does
            random.seed(self._seed)
            np.random.seed(self._seed)
        if self.wanted:
            self._generator.manual_seed(self.of_step(step))

    def of_step(self, step: int) -> int:
        """The seed for the random numbers of a step."""
        index = step - self._first
        if not 0 <= index < len(self._ahead):  # many at a time: a tight loop is far cheaper than one by one
            self._first, index = step, 0
            self._ahead = [stream(self._seed, later, *self._rank) for later in range(step, step + 1024)]
        return self._ahead[index]

    def own(self) -> torch.Generator:
        """Replaces torch's default generator by a new one, which it returns."""
        self._generator = torch.Generator(self._generator.device)
        return self._generator

    def at(self, step: int, place: str) -> torch.Generator:
        """A generator for one place of a step, independent of draws elsewhere and the same in all ranks.

        Args:
            step: counted from 0.
            place: a name, such as 'mixup'; the same generator is given again for it at the next step.
        """
        if place not in self._places:
            self._places[place] = torch.Generator(self._generator.device), zlib.crc32(place.encode())
        generator, number = self._places[place]
        return generator.manual_seed(stream(self._seed, step, number))


def generators() -> dict[str, Any]:
    """The states of python's, numpy's and torch's global generators (CPU and every GPU)."""
    version, words, following = random.getstate()
    name, numbers, *rest = np.random.get_state()
    return {
        "python": [version, torch.tensor(words), following],
        "numpy": [name, torch.from_numpy(np.asarray(numbers).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def place_generators(state: Mapping[str, Any]) -> None:
    """Restores the states that `generators` returned."""
    version, words, following = state["python"]
    random.setstate((version, tuple(words.tolist()), following))
    name, numbers, *rest = state["numpy"]
    np.random.set_state((name, numbers.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, index)


@contextmanager
def same_generators_after(device: torch.device) -> Iterator[Callable[[], bool]]:
    """Restores the global generators at the end; yields a function that says whether any was drawn from.

    Args:
        device: whose torch generator is restored, besides the CPU's, python's and numpy's.
    """
    gpu = device.type == "cuda"

    def states_now() -> list[Any]:
        _, words, *rest = np.random.get_state()
        states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if gpu else [])]
        return [random.getstate(), np.asarray(words).tobytes(), rest, [bytes(own.numpy()) for own in states]]

    plain, numbers, before = random.getstate(), np.random.get_state(), states_now()
    with torch.random.fork_rng([device] if gpu else []):
        try:
            yield lambda: states_now() != before
        finally:
            random.setstate(plain)
            np.random.set_state(numbers)


def way_back_of_generators() -> Callable[[], None]:
    """A function that puts python's, numpy's and torch's global generators back to where they are now."""
    plain, numbers, own = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def go_back() -> None:
        random.setstate(plain)
        np.random.set_state(numbers)
        torch.set_rng_state(own)
        for index, state in enumerate(gpus):
            torch.cuda.set_rng_state(state, index)

    return go_back


def seed_worker(worker: int) -> None:
    """Seeds python and numpy in a DataLoader's worker from the seed torch gave it (its `worker_init_fn`)."""
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)
