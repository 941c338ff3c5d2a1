"""Splits raw arrays into training, validation and test part, and scales them."""

import hashlib
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.data.dataset import Arrays, Data
from sweepwise.data.part import Part
from sweepwise.data.scaling import UNSCALED, Scaling, moments, standardizing
from sweepwise.data.stored import StoredPart
from sweepwise.seed import stream

FRACTION = Range(0, 1, open_low=True, open_high=True)
RATE = Range(0, 1, open_high=True)


def split(
    arrays: Arrays,
    *,
    batch_size: Annotated[int, Range(1)] = 64,
    split_seed: Annotated[int, Range(0)] = 0,
    validation: Annotated[float, FRACTION] = 0.2,
    test: Annotated[float, FRACTION] = 0.2,
    standardize: bool = True,
    shuffle: bool = True,
    examples: Annotated[int, Range(1)] | None = None,
    label_noise: Annotated[float, RATE] = 0.0,
) -> Data:
    """Splits raw arrays at random, and scales them by mean and deviation of the training part.

    Features become (x - mean) / std, each by itself, over the training examples; a feature that is constant
    there is only centred. What has channels (examples, channels, ...) is scaled channel by channel.
    Regression targets are always scaled so, whatever `standardize` says.

    Args:
        arrays: the raw data set.
        batch_size: examples of a step, from 1 to the number of training examples.
        split_seed: >= 0; the same seed gives the same split. It is not the training seed, so that runs with
            different seeds are measured on the same examples.
        validation: fraction of all examples, in (0, 1).
        test: fraction of all examples, in (0, 1). Ignored if the set has its own test part.
        standardize: whether to scale the features.
        shuffle: whether the training examples come in a new order each epoch, by `seed.data`; else always in
            the order of the split.
        examples: how many of the set are used, drawn by `split_seed`, for quick trials; the set's own test
            part is shortened by the same factor. null: all.
        label_noise: fraction of the training labels, in [0, 1), that become another class, drawn by
            `split_seed`; a higher rate keeps the wrong labels of a lower one. Validation and test part keep
            the right labels.

    Returns:
        The data, on the CPU.

    Raises:
        ValueError: a fraction or a number out of range, or a part without examples.

    Example:
        >>> from sweepwise import Arrays
        >>> data = split(Arrays("hundred", np.arange(100.0)[:, None], np.arange(100) % 2, 2), batch_size=30)
        >>> [len(part.y) for part in (data.train, data.validation, data.test)]
        [60, 20, 20]
        >>> abs(data.train.x.mean().item()) < 1e-6, round(data.train.x.std(correction=0).item(), 6)
        (True, 1.0)
    """
    x, y, classes = _array(arrays.x), np.asarray(arrays.y), arrays.classes
    raw, order, fractions = [x, y], _permutation(len(x), split_seed), {"data.validation": validation}
    if arrays.x_test is None or arrays.y_test is None:
        x_test, y_test, own = x, y, order[:0]
        fractions |= {"data.test": test}
    else:
        x_test, y_test = _array(arrays.x_test), np.asarray(arrays.y_test)
        raw += [x_test, y_test]
        own = np.arange(len(x_test))
    if examples is not None:
        order, own = _subset(examples, order, own, split_seed)
    sizes = _sizes(len(order) + len(own), fractions, tested=len(own))
    if batch_size < 1:
        raise ValueError(f"data.batch_size={batch_size}: must be at least 1")
    if batch_size > sizes[0]:
        raise ValueError(f"data.batch_size={batch_size}: must be at most the {sizes[0]} training examples")
    train, held, last = np.split(order, np.cumsum(sizes[:2]))
    last = own if len(own) else last

    scaling = standardizing(x, train) if standardize else UNSCALED
    target_mean, target_std = map(float, moments(y, train)) if classes == 0 else (0.0, 1.0)
    targets = [_targets(y[train], classes, target_mean, target_std)]
    targets += [_targets(values, classes, target_mean, target_std) for values in (y[held], y_test[last])]
    notes = arrays.notes
    if label_noise != 0:
        targets[0], wrong = _mislabelled(targets[0], classes, label_noise, split_seed)
        notes += (f"data.label_noise={label_noise}: {wrong} of {sizes[0]} training labels are wrong",)
    return Data(
        arrays.name,
        _part(x, train, scaling, targets[0]),
        _part(x, held, scaling, targets[1]),
        _part(x_test, last, scaling, targets[2]),
        batch_size,
        classes,
        target_mean,
        target_std,
        _fingerprint(raw),
        shuffle,
        notes,
    )


def _array(x: NDArray[np.generic]) -> np.ndarray:
    return x if isinstance(x, np.memmap) else np.asarray(x)


def _part(x: np.ndarray, rows: np.ndarray, scaling: Scaling, y: Tensor) -> Part | StoredPart:
    if isinstance(x, np.memmap):
        return StoredPart(x, rows, scaling, y)
    return Part(torch.from_numpy(scaling.rows(x, rows)), y)


def _targets(y: np.ndarray, classes: int, mean: float, std: float) -> Tensor:
    if classes:
        return torch.from_numpy(y.astype(np.int64))
    return torch.from_numpy(((y - mean) / std).astype(np.float32))


def _subset(examples: int, order: np.ndarray, own: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices of `examples` examples, of the set and of its own test part."""
    every = len(order) + len(own)
    if not 1 <= examples <= every:
        raise ValueError(f"data.examples={examples}: must be from 1 to the {every} examples of the set")
    tested = round(examples * len(own) / every)
    return order[: examples - tested], np.sort(_permutation(len(own), seed)[:tested])


def _mislabelled(y: Tensor, classes: int, rate: float, seed: int) -> tuple[Tensor, int]:
    """Labels of which a fraction is changed to another class, and how many these are."""
    if rate not in RATE:
        raise ValueError(f"data.label_noise={rate}: must be in {RATE}")
    if classes < 2:
        raise ValueError(f"data.label_noise={rate}: must be 0 without at least two classes")
    wrong = _permutation(len(y), stream(seed, 0))[: round(rate * len(y))]
    shifts = 1 + np.random.PCG64(stream(seed, 1)).random_raw(len(y)) % np.uint64(classes - 1)
    noisy = y.clone()
    noisy[wrong] = (y[wrong] + torch.from_numpy(shifts.astype(np.int64))[wrong]) % classes
    return noisy, len(wrong)


def _sizes(examples: int, fractions: dict[str, float], tested: int = 0) -> tuple[int, int, int]:
    """The numbers of training, validation and test examples; `tested` are in the set's own test part."""
    for key, fraction in fractions.items():
        if fraction not in FRACTION:
            raise ValueError(f"{key}={fraction}: must be in {FRACTION}")
    # The cumulative fractions are rounded, so that the three sizes always add up.
    held_out = tested + round(sum(fractions.values()) * examples)
    tested += round(fractions.get("data.test", 0.0) * examples)
    sizes = examples - held_out, held_out - tested, tested
    if min(sizes) < 1:
        raise ValueError(
            ", ".join(f"{key}={fraction}" for key, fraction in fractions.items())
            + f": must leave at least 1 of the {examples} examples to each of training, validation and test"
        )
    return sizes


def _permutation(size: int, seed: int) -> np.ndarray:
    # numpy guarantees the raw stream of a bit generator for ever, but not Generator.permutation.
    # Nothing else uses this stream: that of default_rng(seed) would sort a set generated with it.
    stream = np.random.SeedSequence([int.from_bytes(b"split"), seed])
    return np.argsort(np.random.PCG64(stream).random_raw(size), kind="stable")


def _fingerprint(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
