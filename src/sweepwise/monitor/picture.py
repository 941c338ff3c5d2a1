"""Draws small pictures and writes them as PNG, without a drawing library, whose import would take long.

A picture is an array (height, width, 3) uint8.
"""

import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

TILE = 64  # pixels at least, the edge of an example
PLOT = (64, 160)  # height and width of a signal
GAP = 2  # between them
PAPER, INK = 255, 0  # white and black
DEEP_BLUE = np.array([8, 48, 107])  # of the largest share
LARGEST = 1024  # pixels, the edge of a confusion matrix without numbers

_SCALE = 2  # pixels of a picture for one of a digit
_DIGIT = 4 * _SCALE  # width of a digit with the space behind it
# Digits of 3 x 5 pixels; the rows of each, top to bottom, as three bits and the space.
_ROWS = "75557 26227 71747 71317 55711 74717 74757 71111 75757 75717"
_BITS = [[[int(row) >> shift & 1 for shift in (2, 1, 0)] + [0] for row in rows] for rows in _ROWS.split()]
_DIGITS = np.array(_BITS, dtype=bool).repeat(_SCALE, 1).repeat(_SCALE, 2)


def png(picture: Picture) -> bytes:
    """A picture as a PNG file.

    Source: W3C, Portable Network Graphics: 8 bits, colour type 2, no filter.
    """
    height, width, _ = picture.shape
    rows = np.insert(picture.reshape(height, -1), 0, 0, axis=1)  # each begins with the number of its filter
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows.tobytes(), 1),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


def drawable(features: Sequence[int]) -> bool:
    """Whether `examples` can draw examples of this shape: (1 or 3, height, width) or (channels, length)."""
    return len(features) == 2 or (len(features) == 3 and features[0] in (1, 3))


def examples(x: NDArray[np.floating]) -> Picture:
    """Draws examples in a square grid, row by row; the lowest value of all is black, the highest white.

    Args:
        x: (examples, 1 or 3, height, width), or (examples, channels, length), which is drawn as lines.
    """
    x = np.nan_to_num(np.asarray(x, np.float64), posinf=0.0, neginf=0.0)
    spread = x.max() - x.min()
    x = (x - x.min()) / (spread or 1.0)
    if x.ndim == 3:
        return _grid([_plot(signals) for signals in x])
    times = max(1, -(-TILE // max(x.shape[2:])))
    pixels = np.broadcast_to(np.moveaxis(np.rint(255 * x).astype(np.uint8), 1, 3), (*x[:, 0].shape, 3))
    return _grid([image.repeat(times, 0).repeat(times, 1) for image in pixels])


def _plot(signals: NDArray[np.float64]) -> Picture:
    """Draws signals as lines over time, (channels, length) in [0, 1]."""
    height, width = PLOT
    picture = np.full((height, width, 3), PAPER, np.uint8)
    times = np.linspace(0, signals.shape[1] - 1, width)
    for signal in signals:
        line = np.interp(times, np.arange(len(signal)), signal)
        rows = np.rint((height - 1) * (1 - line)).astype(int)
        for column, (start, end) in enumerate(zip(rows, [*rows[1:], rows[-1]], strict=True)):
            picture[min(start, end) : max(start, end) + 2, column] = INK  # two pixels thick
    return picture


def _grid(tiles: Sequence[Picture]) -> Picture:
    height, width, _ = tiles[0].shape
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = -(-len(tiles) // columns)
    picture = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 128, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        picture[top : top + height, left : left + width] = tile
    return picture


def matrix(counts: NDArray[np.integer]) -> Picture:
    """Draws a confusion matrix: a row for each true class, shaded by the share of its examples, with counts.

    Counts, and class numbers at the left and the top, are left out if they do not fit.

    Args:
        counts: (classes, classes), true class by predicted class.
    """
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    colours = np.rint(PAPER + shares[..., None] * (DEEP_BLUE - PAPER)).astype(np.uint8)
    edge = max(3, len(str(int(counts.max(initial=0))))) * _DIGIT + 2 * _SCALE
    if classes * edge > LARGEST:
        times = max(1, LARGEST // classes)
        return colours.repeat(times, 0).repeat(times, 1)
    picture = np.full(((classes + 1) * edge, (classes + 1) * edge, 3), PAPER, np.uint8)
    picture[edge:, edge:] = colours.repeat(edge, 0).repeat(edge, 1)
    picture[edge::edge, edge:] = picture[edge:, edge::edge] = 200  # lines between the cells
    for row in range(classes):
        _write(picture, row, (row + 1) * edge, 0, edge, INK)
        _write(picture, row, 0, (row + 1) * edge, edge, INK)
        for column in range(classes):
            if number := int(counts[row, column]):
                tone = PAPER if shares[row, column] > 0.5 else INK
                _write(picture, number, (row + 1) * edge, (column + 1) * edge, edge, tone)
    return picture


def _write(picture: Picture, number: int, top: int, left: int, edge: int, tone: int) -> None:
    """Draws a whole number in the middle of a square cell."""
    shape = np.concatenate([_DIGITS[int(digit)] for digit in str(number)], 1)[:, :-_SCALE]
    top, left = top + (edge - shape.shape[0]) // 2, left + (edge - shape.shape[1]) // 2
    picture[top : top + shape.shape[0], left : left + shape.shape[1]][shape] = tone
