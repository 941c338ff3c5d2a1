"""The random number generators that a model keeps for itself, such as a `torch.Generator` of a layer."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sweepwise.learner.reach import name_of, reached

Generator = torch.Generator | random.Random | np.random.Generator | np.random.RandomState
KINDS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


def own_generators(model: nn.Module) -> dict[str, Generator]:
    """The generators that a model reaches, by where it holds them; not those of the process.

    Those of the process have their own place in a checkpoint (`seed.generators`).

    Example:
        >>> model = nn.Identity()
        >>> model.rng = random.Random(1)
        >>> list(own_generators(model))
        ['rng']
    """
    of_process = [getattr(library.random, "__self__", None) for library in (random, np.random)]
    others = set(map(id, [*of_process, torch.default_generator, *torch.cuda.default_generators]))
    return {
        name_of(path): value
        for path, value in reached(model)
        if is_generator(value) and id(value) not in others
    }


def is_generator(value: object) -> bool:
    """Whether a value is a generator with a state; the operating system's random numbers have none."""
    return isinstance(value, KINDS) and not isinstance(value, random.SystemRandom)


def generator_state(generator: Generator) -> Any:
    """A generator's state: numbers, texts and tensors, in tuples and dictionaries."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        state = generator.bit_generator.state
    else:
        state = generator.get_state(legacy=False)
    return tree_map(
        lambda leaf: torch.from_numpy(leaf.copy()) if isinstance(leaf, np.ndarray) else leaf, state
    )


def place_generator(generator: Generator, state: Any) -> None:
    """Restores what `generator_state` returned."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
        return
    if isinstance(generator, random.Random):
        generator.setstate(state)
        return
    own = tree_map(lambda leaf: leaf.numpy() if isinstance(leaf, Tensor) else leaf, state)
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = own
    else:
        generator.set_state(own)


def generator_states(model: nn.Module) -> dict[str, Any]:
    """The states of a model's own generators, by where it holds them."""
    return {name: generator_state(own) for name, own in own_generators(model).items()}


def place_own_generators(model: nn.Module, states: Mapping[str, Any]) -> None:
    """Restores what `generator_states` returned; a generator that has no state there stays as it is."""
    for name, generator in own_generators(model).items():
        if name in states:
            place_generator(generator, states[name])
