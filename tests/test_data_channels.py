"""Where the channels of images and sequences are: said, or refused where the shape looks otherwise."""

import numpy as np
import pytest

from sweepwise import Arrays
from sweepwise.data import split
from sweepwise.data.memmap import memmap
from sweepwise.data.table import table


def saved(tmp_path, shape: tuple[int, ...]) -> tuple[str, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 255, (12, *shape)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(12) % 3)
    return str(tmp_path / "a.npz"), x


@pytest.mark.parametrize(
    "shape", [(32, 32, 3), (32, 48, 1), (28, 28, 4), (100, 3), (16, 16, 12), (9, 8, 7, 1)]
)
def test_channels_last_are_refused_and_can_be_moved(shape, tmp_path):
    path, x = saved(tmp_path, shape)
    with pytest.raises(ValueError, match=r"look as if they had channels last; set data\.channels=last, or"):
        table(path=path)
    moved = table(path=path, channels="last")
    assert np.array_equal(moved.x, np.moveaxis(x, -1, 1)) and moved.x.flags.c_contiguous
    assert len(moved.notes) == 1
    assert np.array_equal(table(path=path, channels="first").x, x)


@pytest.mark.parametrize("shape", [(28, 28), (5, 5)])
def test_images_without_channels_get_one(shape, tmp_path):
    path, x = saved(tmp_path, shape)
    with pytest.raises(ValueError, match=r"look as if they had no channels; set data\.channels=none, or"):
        table(path=path)
    assert np.array_equal(table(path=path, channels="none").x, x[:, None])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 2, 2), (3, 3, 3), (1, 40), (4, 3), (2, 7)])
def test_channels_first_need_nothing(shape, tmp_path):
    path, x = saved(tmp_path, shape)
    arrays = table(path=path)
    assert np.array_equal(arrays.x, x) and len(arrays.notes) == 1


@pytest.mark.parametrize("shape", [(8, 32, 32), (12, 100), (64, 20)])
def test_many_channels_are_named_in_a_note(shape, tmp_path):
    path, _ = saved(tmp_path, shape)
    assert any(f"{shape[0]} channels; data.channels says" in note for note in table(path=path).notes)


def test_plain_features_have_no_channels(tmp_path):
    path, _ = saved(tmp_path, (6,))
    assert len(table(path=path).notes) == 1
    for channels in ("first", "last", "none"):
        with pytest.raises(ValueError, match=f"data.channels={channels}: must be null"):
            table(path=path, channels=channels)


def test_arrays_on_disk_are_refused_with_what_to_save(tmp_path):
    _, x = saved(tmp_path, (32, 32, 3))
    np.save(tmp_path / "y.npy", np.arange(12) % 3)
    paths = {"x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy")}
    np.save(paths["x"], x)
    with pytest.raises(ValueError, match=r"channels last; save numpy\.ascontiguousarray\(numpy\.moveaxis"):
        memmap(**paths)
    assert memmap(**paths, channels="first").x.shape == (12, 32, 32, 3)
    np.save(paths["x"], np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    assert memmap(**paths).x.shape == (12, 3, 32, 32)


def test_arrays_of_a_script_give_a_note():
    x = np.random.default_rng(0).normal(size=(30, 16, 16, 3))
    data = split(Arrays("own", x, np.arange(30) % 2, 2), batch_size=4)
    (note,) = data.notes
    assert note.startswith("examples of 16 x 16 x 3 look as if they had channels last; networks take")
    assert not split(Arrays("own", np.moveaxis(x, -1, 1), np.arange(30) % 2, 2), batch_size=4).notes
