"""Your own arrays in .npy files, whose features stay on disk."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.data.arrays import read_npy
from sweepwise.data.channels import likely_channels, looks
from sweepwise.data.dataset import Arrays
from sweepwise.data.targets import find_targets


@checked("data")
def memmap(
    *,
    x: str,
    y: str,
    classes: Annotated[int, Range(0)] | None = None,
    channels: Literal["first"] | None = None,
) -> Arrays:
    """Two .npy files: features that are read batch by batch, and targets, which are held in memory.

    Args:
        x: path of the features, (examples, *features) of any real type, saved in C order.
        y: path of the targets, (examples,).
        classes: number of classes, if y holds 0..classes-1; 0: a regression; null: decided as by `table`.
        channels: 'first': the second axis has them, though the shape looks otherwise.

    Returns:
        x mapped from its file, and y.

    Raises:
        ValueError: what is wrong with the files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/x.npy", np.zeros((4, 3)))
        ...     np.save(f"{folder}/y.npy", np.array([0, 1, 1, 0]))
        ...     arrays = memmap(x=f"{folder}/x.npy", y=f"{folder}/y.npy")
        >>> type(arrays.x).__name__, arrays.x.shape, arrays.classes
        ('memmap', (4, 3), 2)
    """
    features = read_npy(f"data.x={x}", Path(x), mapped=True)
    values = read_npy(f"data.y={y}", Path(y))
    if features.ndim < 2 or features.dtype.kind not in "buif":
        raise ValueError(
            f"data.x={x}: must hold real numbers (examples, ...): found {features.dtype} {features.shape}"
        )
    if not features.flags.c_contiguous:
        raise ValueError(f"data.x={x}: must be in C order; save numpy.ascontiguousarray(x)")
    if channels is None and (likely := likely_channels(features.shape[1:])):
        raise ValueError(
            f"data.x={x}: {looks(features.shape, likely)}; save "
            f"numpy.ascontiguousarray({'numpy.moveaxis(x, -1, 1)' if likely == 'last' else 'x[:, None]'}), "
            "or set data.channels=first if they do not"
        )
    if values.shape != features.shape[:1] or values.dtype.kind not in "buifU":
        raise ValueError(
            f"data.y={y}: must hold a target for each of the {len(features)} examples of data.x={x}: "
            f"found {values.dtype} {values.shape}"
        )
    name = Path(x).name
    if classes is None:
        return find_targets(f"data.y={y}", values, "auto").with_features(name, features)
    if classes == 0:
        return find_targets(f"data.y={y}", values, "regression").with_features(name, features)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= classes:
        raise ValueError(
            f"data.y={y}: must hold whole numbers from 0 to {classes - 1} with data.classes={classes}"
        )
    return Arrays(name, features, values.astype(np.int64), classes)
