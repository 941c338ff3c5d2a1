"""The same training in JAX, which compiles a whole step: arithmetic without calls from Python between.

    scan     all full batches of an epoch in one compiled loop; convolutions in such a loop are slow
    step     one compiled call a step

Both shuffle, validate and report after each epoch as the others do, and write nothing. Compilation, in the
epoch that is not timed, is left out.
"""

import os

# One thread. Set before jax is imported.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from collections.abc import Callable
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from torch import nn
from workload import Workload

Weights = list[tuple[Any, Any]]


def scan(workload: Workload, epochs: int) -> float:
    return _fit(workload, epochs, whole=True)


def step(workload: Workload, epochs: int) -> float:
    return _fit(workload, epochs, whole=False)


def _fit(workload: Workload, epochs: int, whole: bool) -> float:
    model = workload.model()
    layers = [layer for layer in model if isinstance(layer, (nn.Linear, nn.Conv1d))]
    weights = [tuple(jnp.asarray(own.detach().numpy()) for own in layer.parameters()) for layer in layers]
    forward = _forward(model)
    (x, y), validation = (tuple(jnp.asarray(own.numpy()) for own in part) for part in _parts(workload))

    def loss(weights: Weights, x: Any, y: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(forward(weights, x)), y[:, None], 1))

    def update(state: Any, index: Any) -> tuple[Any, Any]:
        weights, mean, square, number = state
        value, gradient = jax.value_and_grad(loss)(weights, x[index], y[index])
        number = number + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, gradient)
        first, second = 1 - 0.9**number, 1 - 0.999**number
        weights = jax.tree.map(
            lambda w, m, s: w - workload.learning_rate * (m / first) / (jnp.sqrt(s / second) + 1e-8),
            weights,
            mean,
            square,
        )
        return (weights, mean, square, number), value

    one, many = jax.jit(update), jax.jit(lambda state, index: jax.lax.scan(update, state, index))

    @jax.jit
    def validate(weights: Weights) -> tuple[Any, Any]:
        logits = forward(weights, validation[0])
        return loss(weights, *validation), jnp.mean(logits.argmax(1) == validation[1])

    def epoch(state: Any, order: np.ndarray) -> Any:
        full = len(order) // workload.batch * workload.batch
        if whole:
            state, _ = many(state, order[:full].reshape(-1, workload.batch))
        else:
            for index in order[:full].reshape(-1, workload.batch):
                state, _ = one(state, index)
        return one(state, order[full:])[0] if full < len(order) else state

    draw = np.random.default_rng(0)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    start = weights, zeros, zeros, jnp.zeros(())
    validate(epoch(start, np.arange(len(y)))[0])[0].block_until_ready()  # compiles
    state, began = start, perf_counter()
    for _ in range(epochs):
        state = epoch(state, draw.permutation(len(y)))
        value, accuracy = validate(state[0])
        workload.report(float(value), float(accuracy))
    return epochs * workload.steps_per_epoch / (perf_counter() - began)


def _parts(workload: Workload) -> tuple[Any, Any]:
    return workload.train, workload.validation


def _forward(model: nn.Sequential) -> Callable[[Weights, Any], Any]:
    """The model's pass, with the weights of its layers in their order."""

    def forward(weights: Weights, x: Any) -> Any:
        left = iter(weights)
        for layer in model:
            if isinstance(layer, nn.Linear):
                weight, bias = next(left)
                x = x @ weight.T + bias
            elif isinstance(layer, nn.Conv1d):
                weight, bias = next(left)
                padding = [(layer.padding[0], layer.padding[0])]
                x = jax.lax.conv_general_dilated(
                    x, weight, layer.stride, padding, dimension_numbers=("NCH", "OIH", "NCH")
                )
                x = x + bias[:, None]
            else:
                x = jax.nn.relu(x) if isinstance(layer, nn.ReLU) else x.reshape(len(x), -1)
        return x

    return forward
