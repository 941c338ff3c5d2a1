"""Splits raw arrays into training, validation and test part, and scales them."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.data.channels import likely_channels, looks
from sweepwise.data.dataset import Arrays, Data
from sweepwise.data.filling import fit_filling
from sweepwise.data.joined import in_several_parts
from sweepwise.data.part import Part
from sweepwise.data.preparation import Preparation
from sweepwise.data.scaling import UNSCALED, Scaling, moments, standardizing
from sweepwise.data.stored import StoredPart
from sweepwise.data.unseen import unseen_classes, unseen_values
from sweepwise.seed import stream

FRACTION = Range(0, 1, open_high=True)
SHARE = 0.2  # of the validation and of the test part, unless another is given


@checked("data")
def split(
    arrays: Arrays,
    *,
    batch_size: Annotated[int, Range(1)] = 64,
    split_seed: Annotated[int, Range(0)] = 0,
    validation: Annotated[float, FRACTION] = SHARE,
    test: Annotated[float, FRACTION] = SHARE,
    standardize: bool = True,
    shuffle: bool = True,
    examples: Annotated[int, Range(1)] | None = None,
    label_noise: Annotated[float, FRACTION] = 0.0,
    split_order: Literal["random", "stored"] = "random",
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
        validation: fraction of all examples, in [0, 1). 0: there is no such part, and what a table gives to
            it is trained on; the best weights are the last ones then.
        test: fraction of all examples, in [0, 1). 0: as for `validation`, and nothing is tested. Ignored if
            the set has its own test part, which is never trained on.
        standardize: whether to scale the features.
        shuffle: whether the training examples come in a new order each epoch, by `seed.data`; else always in
            the order of the split.
        examples: how many of the set are used, drawn by `split_seed`, for quick trials; the set's own test
            part is shortened by the same factor. null: all.
        label_noise: fraction of the training labels, in [0, 1), that become another class, drawn by
            `split_seed`; a higher rate keeps the wrong labels of a lower one. Validation and test part keep
            the right labels.
        split_order: 'stored': the first examples are the training part, the last ones the test part, as for
            measurements in the order of time; 'random': in an order drawn by `split_seed`.

    Returns:
        The data, on the CPU.

    Raises:
        ValueError: a fraction or a number out of range, or a part that is wanted has no examples.

    Example:
        >>> from sweepwise import Arrays
        >>> data = split(Arrays("hundred", np.arange(100.0)[:, None], np.arange(100) % 2, 2), batch_size=30)
        >>> [len(part.y) for part in (data.train, data.validation, data.test)]
        [60, 20, 20]
        >>> abs(data.train.x.mean().item()) < 1e-6, round(data.train.x.std(correction=0).item(), 6)
        (True, 1.0)
    """
    x, y, classes = arrays.x, arrays.y, arrays.classes
    raw, order, fractions = [x, y], _permutation(len(x), split_seed), {"data.validation": validation}
    if split_order == "stored":
        order = np.arange(len(x))
    if arrays.x_test is None or arrays.y_test is None:
        x_test, y_test, own = x, y, order[:0]
        fractions |= {"data.test": test}
    elif test == 0:
        raise ValueError(f"data.test=0: has no effect, as {arrays.name} has its own; leave it out")
    else:
        x_test, y_test = arrays.x_test, arrays.y_test
        raw += [x_test, y_test]
        own = np.arange(len(x_test))
    if examples is not None:
        order, own = _subset(examples, order, own, split_seed)
    notes: tuple[str, ...] = arrays.notes
    if arrays.parts is None:
        sizes = _sizes(len(order) + len(own), fractions, tested=len(own))
        train, held, last = np.split(order, np.cumsum(sizes[:2]))
    else:
        raw.append(arrays.parts)
        train, held, last = _by_parts(arrays.parts, order, validation, test)
        notes += _trained_on_too(arrays.parts[train])
        drawn = examples is not None or label_noise != 0
        chosen = {} if drawn else {"split_seed": (split_seed, 0), "split_order": (split_order, "random")}
        notes += _without_effect(arrays.parts[order], validation, test, chosen)
        if arrays.encoding is not None:
            notes += tuple(in_several_parts(x, y, _used(arrays.parts, validation, test)))
    if batch_size > len(train):
        raise ValueError(f"data.batch_size={batch_size}: must be at most the {len(train)} training examples")
    last = own if len(own) else last

    filling = None
    if arrays.encoding is not None:
        filling, remarks = fit_filling(arrays.encoding, x, train)
        x, notes = filling(x), (*notes, *remarks)
        x_test = filling(x_test) if len(own) else x
    if likely := likely_channels(x.shape[1:]):
        notes += (f"{looks(x.shape, likely)}; networks take them as (examples, channels, ...)",)
    scaling = standardizing(x, train) if standardize else UNSCALED
    with np.errstate(over="ignore", invalid="ignore"):  # `_targets` says it
        target_mean, target_std = map(float, moments(y, train)) if classes == 0 else (0.0, 1.0)
    targets = [_targets(y[train], classes, target_mean, target_std)]
    targets += [_targets(values, classes, target_mean, target_std) for values in (y[held], y_test[last])]
    named = dict(zip(("training", "validation", "test"), targets, strict=True))
    labels = arrays.labels or tuple(range(classes))
    if classes:
        notes += tuple(unseen_classes(named, labels))
    else:
        notes += tuple(note for name, values in named.items() for note in _same(name, values))
    if label_noise != 0:
        targets[0], wrong = _mislabelled(targets[0], classes, label_noise, split_seed)
        notes += (f"data.label_noise={label_noise}: {wrong} of {len(train)} training labels are wrong",)
    preparation = Preparation(
        tuple(x.shape[1:]),
        scaling,
        filling,
        arrays.reading,
        labels,
        target_mean,
        target_std,
    )
    trained, validated, tested = (
        _part(values, rows, scaling, own)
        for values, rows, own in zip((x, x, x_test), (train, held, last), targets, strict=True)
    )
    notes += tuple(unseen_values((trained, validated, tested), scaling, preparation.called))
    return Data(
        arrays.name,
        trained,
        validated,
        tested,
        batch_size,
        classes,
        target_mean,
        target_std,
        _fingerprint(raw),
        shuffle,
        notes,
        preparation,
    )


def _same(name: str, y: Tensor) -> tuple[str, ...]:
    """A note on a part whose targets are all the same number."""
    if not len(y) or y.min() != y.max():
        return ()
    return (f"the {name} part has {len(y)} equal targets, for which R2 is not defined",)


def _part(x: np.ndarray, rows: np.ndarray, scaling: Scaling, y: Tensor) -> Part | StoredPart:
    if isinstance(x, np.memmap):
        return StoredPart(x, rows, scaling, y)
    scaled = scaling.rows(x, rows)
    if not np.isfinite(scaled).all():
        place = int(np.argwhere(~np.isfinite(scaled))[0][1])
        raise ValueError(
            f"data: feature or channel {place} has values that are missing, or too large for float32 once "
            "scaled; correct them, or leave it out"
        )
    return Part(torch.from_numpy(scaled), y)


def _targets(y: np.ndarray, classes: int, mean: float, std: float) -> Tensor:
    if classes:
        return torch.from_numpy(y.astype(np.int64))
    if not np.isfinite([mean, std]).all():
        raise ValueError("data: some targets are missing or too large: their mean or deviation is not finite")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scaled = ((y - mean) / std).astype(np.float32)
    if not np.isfinite(scaled).all():
        raise ValueError("data: some targets are missing, or too large for float32 once scaled")
    return torch.from_numpy(scaled)


def _subset(examples: int, order: np.ndarray, own: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices of `examples` examples, of the set and of its own test part."""
    every = len(order) + len(own)
    if examples > every:
        raise ValueError(f"data.examples={examples}: must be from 1 to the {every} examples of the set")
    tested = round(examples * len(own) / every)
    return order[: examples - tested], np.sort(_permutation(len(own), seed)[:tested])


def _mislabelled(y: Tensor, classes: int, rate: float, seed: int) -> tuple[Tensor, int]:
    """Labels of which a fraction is changed to another class, and how many these are."""
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
    wanted = (True, fractions["data.validation"] > 0, fractions.get("data.test", tested) > 0)
    if any(size < 1 for size, asked in zip(sizes, wanted, strict=True) if asked):
        raise ValueError(
            ", ".join(f"{key}={fraction}" for key, fraction in fractions.items())
            + f": must leave at least 1 of the {examples} examples to each of training, validation and test; "
            "with 0 there is no such part"
        )
    return sizes


def _by_parts(parts: np.ndarray, order: np.ndarray, validation: float, test: float) -> list[np.ndarray]:
    """The examples of the training, validation and test part, in the given order.

    A part that has no example takes the last ones of the training part, as many as its fraction says. One
    whose fraction is 0 is trained on.

    Raises:
        ValueError: a fraction is out of range, or a part that is wanted is left without examples.
    """
    wanted = (True, validation > 0, test > 0)
    places = _used(parts, validation, test)[order]
    train, held, last = (order[places == place] for place in range(3))
    taken = {}
    for key, fraction, rows in (("data.test", test, last), ("data.validation", validation, held)):
        if fraction not in FRACTION:
            raise ValueError(f"{key}={fraction}: must be in {FRACTION}")
        taken[key] = 0 if len(rows) else round(fraction * len(order))
    ends = max(0, len(train) - sum(taken.values())), max(0, len(train) - taken["data.test"])
    train, held_too, last_too = np.split(train, ends)
    split = [train, held if len(held) else held_too, last if len(last) else last_too]
    if any(len(rows) < 1 for rows, asked in zip(split, wanted, strict=True) if asked):
        sizes = ", ".join(str(len(rows)) for rows in split)
        raise ValueError(
            f"data.part: must leave examples to training, validation and test, and leaves {sizes}; "
            "with data.validation=0 or data.test=0 there is no such part"
        )
    return split


def _used(parts: np.ndarray, validation: float, test: float) -> np.ndarray:
    """The part in which each example is used: that of a fraction of 0 is trained on."""
    return np.where(np.array((True, validation > 0, test > 0))[parts], parts, 0)


def _trained_on_too(parts: np.ndarray) -> tuple[str, ...]:
    """Notes on training examples that belong to another part, (training examples,)."""
    counts = {name: int((parts == place).sum()) for place, name in ((1, "validation"), (2, "test"))}
    return tuple(
        f"data.{name}=0: the {count} examples of the {name} part are trained on"
        for name, count in counts.items()
        if count
    )


def _without_effect(
    parts: np.ndarray, validation: float, test: float, chosen: Mapping[str, tuple[object, object]]
) -> tuple[str, ...]:
    """Notes on options that change no part, as the data say themselves which examples it has.

    Args:
        parts: (examples,) that are used.
        validation: fraction.
        test: fraction.
        chosen: by option, its value and its default, of those that choose only examples of a fraction.
    """
    fractions = {"validation": validation, "test": test}
    own = {name: bool((parts == place).any()) for place, name in enumerate(fractions, 1)}
    notes = [
        f"data.{name}={fraction}: has no effect, as the data say themselves which examples the {name} part "
        f"has; leave it out, or use data.{name}=0 to train on them"
        for name, fraction in fractions.items()
        if own[name] and fraction not in (0, SHARE)
    ]
    if all(own[name] or fraction == 0 for name, fraction in fractions.items()):
        notes += [
            f"data.{key}={value}: moves no example to another part, as the data say themselves which part "
            "each is in; leave it out"
            for key, (value, default) in chosen.items()
            if value != default
        ]
    return tuple(notes)


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
