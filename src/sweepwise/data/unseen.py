"""Notes on what the training part does not show, though other parts have it: values and classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sweepwise.data.columns import names_listed
from sweepwise.data.part import Part
from sweepwise.data.scaling import EQUAL, Scaling
from sweepwise.data.stored import StoredPart

BEYOND = 1000  # spans of the training values: what lies so far outside is another thing than they are


def unseen_values(
    parts: Sequence[Part | StoredPart], scaling: Scaling, called: Callable[[int], str]
) -> Iterator[str]:
    """A note on features that are constant in the training part, or nearly, and not in the others.

    Nothing is learnt of them, and elsewhere they are as large as their units make them.

    Args:
        parts: training, validation and test part, scaled; the last two may be empty. Nothing is said of
            features that stay on disk, which would be read once more.
        scaling: with which they were.
        called: what the feature or channel of a number is called.
    """
    present = [part for part in parts if len(part.y)]
    held = [part.x for part in present if isinstance(part, Part)]
    if len(held) < len(present):
        return
    train, *others = held
    low, high = _extremes(train)
    outside = torch.zeros_like(low)
    for least, most in map(_extremes, others):
        outside = torch.stack([outside, most - high, low - least]).amax(0)
    rounding = EQUAL * torch.as_tensor(abs(scaling.mean / scaling.std)).reshape(-1)
    beyond = outside > torch.maximum(BEYOND * (high - low).double(), rounding)
    if names := list(dict.fromkeys(map(called, beyond.nonzero().flatten().tolist()))):
        yield (
            "the same in all training examples, or nearly, and not in the other parts: "
            f"{names_listed(names)}; nothing is learnt of it"
        )


def _extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each feature, or of each channel (axis 1 of 3 or more)."""
    own = x.numpy()  # whose reduction of the first axis is many times as fast as torch's
    axes = (0, *range(2, own.ndim))
    return torch.from_numpy(own.min(axes)), torch.from_numpy(own.max(axes))


def unseen_classes(targets: Mapping[str, Tensor], labels: Sequence[object]) -> Iterator[str]:
    """A note on classes that no training example has, and examples of other parts have.

    Args:
        targets: (examples,) classes of each part, by its name; 'training' is one.
        labels: what each class is called.
    """
    counts = {name: y.bincount(minlength=len(labels)) for name, y in targets.items()}
    absent = counts.pop("training") == 0
    told = []
    for place in absent.nonzero().flatten().tolist():
        if where := [f"{int(own[place])} in the {name} part" for name, own in counts.items() if own[place]]:
            told.append(f"{labels[place]} ({', '.join(where)})")
    if told:
        yield f"classes that no training example has: {names_listed(told)}; they cannot be learnt"
