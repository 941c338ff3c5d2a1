"""Where the channels of images and sequences are."""

from __future__ import annotations

from typing import Literal

import numpy as np

Channels = Literal["first", "last", "none"]
MOST_COLOURS = 4  # grey, two, red-green-blue, and with transparency


def channels_first(where: str, x: np.ndarray, channels: Channels | None) -> tuple[np.ndarray, list[str]]:
    """Examples with their channels first, as networks take them; refuses shapes that look otherwise.

    Args:
        where: the config key and value, for messages.
        x: (examples, ...).
        channels: where they are; 'none': an axis of one channel is added; None: first, unless the shape looks
            otherwise.

    Returns:
        x: (examples, channels, ...), and notes.

    Raises:
        ValueError: the shape looks as if its channels were last or not there, and `channels` is None; or
            there is no axis for them.

    Example:
        >>> x, _ = channels_first("data.path=a.npz", np.zeros((9, 32, 32, 3)), "last")
        >>> x.shape
        (9, 3, 32, 32)
    """
    if channels is not None and x.ndim < 3:
        raise ValueError(f"data.channels={channels}: must be null, as {where} has plain features {x.shape}")
    if channels == "none":
        return x[:, None], []
    if channels == "last":
        return np.ascontiguousarray(np.moveaxis(x, -1, 1)), []
    if channels == "first" or x.ndim < 3:
        return x, []
    if x.ndim == 3 and x.shape[2] == 1 < x.shape[1]:  # the same numbers in the same order
        note = f"examples of {x.shape[1]} x 1: 1 channel of {x.shape[1]}; data.channels says where it is"
        return np.ascontiguousarray(np.moveaxis(x, -1, 1)), [note]
    if likely := likely_channels(x.shape[1:]):
        raise ValueError(
            f"{where}: {looks(x.shape, likely)}; set data.channels={likely}, or data.channels=first if they "
            "do not"
        )
    if x.shape[1] <= MOST_COLOURS:
        return x, []
    shape = " x ".join(map(str, x.shape[1:]))
    return x, [f"examples of {shape}: {x.shape[1]} channels; data.channels says where they are"]


def likely_channels(shape: tuple[int, ...]) -> Channels | None:
    """Where the channels of examples of a shape are, if hardly first.

    Example:
        >>> likely_channels((32, 32, 3)), likely_channels((28, 28)), likely_channels((3, 32, 32))
        ('last', 'none', None)
        >>> likely_channels((64, 4, 4)) is likely_channels((32, 3, 3)) is None  # small maps of many channels
        True
    """
    first, last = shape[0], shape[-1]
    if last <= MOST_COLOURS < min(shape[:-1], default=0) or (len(shape) == 3 and first == shape[1] > last):
        return "last"
    return "none" if len(shape) == 2 and first == last > MOST_COLOURS else None


def looks(shape: tuple[int, ...], likely: Channels) -> str:
    """What examples of a shape (examples, ...) look like, for messages."""
    what = "channels last" if likely == "last" else "no channels"
    return f"examples of {' x '.join(map(str, shape[1:]))} look as if they had {what}"
