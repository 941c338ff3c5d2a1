"""Regularizers of images, against rot90, scipy, plain slices and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from small import CONF
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.cli import composed
from sweepwise.config.schema import bind
from sweepwise.errors import UsageError
from sweepwise.regularizer.cutout import Cutout
from sweepwise.regularizer.flip import Flip
from sweepwise.regularizer.rotation import Rotation, rotated
from sweepwise.regularizer.shift_crop import ShiftCrop

EVERY = {"cutout": Cutout(), "flip": Flip(), "shift_crop": ShiftCrop(), "rotation": Rotation()}


def seen(regularizer, x: Tensor, seed: int = 0) -> Tensor:
    return regularizer.examples(x, torch.zeros(len(x)), torch.Generator().manual_seed(seed))[0]


def images(count: int = 1, channels: int = 2, height: int = 5, width: int = 7) -> Tensor:
    """All pixels differ and none is zero."""
    pixels = torch.arange(1.0, 1 + channels * height * width).view(1, channels, height, width)
    return pixels.expand(count, -1, -1, -1).clone()


# --- images only


@pytest.mark.parametrize("features", [(64,), (8, 8), (1, 40), (2, 1, 8, 8), ()])
@pytest.mark.parametrize("name", EVERY)
def test_other_examples_than_images_are_refused(name, features):
    rule = rf"^regularizer={name}: must have images \(channels, height, .*data=digits data\.image=true"
    with pytest.raises(ValueError, match=rule):
        EVERY[name].prepare_(nn.Identity(), features, 10)
    EVERY[name].prepare_(nn.Identity(), (1, 8, 8), 10)
    EVERY[name].prepare_(nn.Identity(), (3, 8, 6), 0)


@pytest.mark.parametrize(
    ("regularizer", "rule"),
    [
        (Cutout(size=9), r"^regularizer\.cutout\.size=9: must be at most 8,.*8 x 9 pixels"),
        (ShiftCrop(padding=8), r"^regularizer\.shift_crop\.padding=8: must be less than 8,.*8 x 9 pixels"),
    ],
)
def test_what_exceeds_the_image_is_refused(regularizer, rule):
    with pytest.raises(ValueError, match=rule):
        regularizer.prepare_(nn.Identity(), (1, 8, 9), 10)


@pytest.mark.parametrize("option", [Cutout(size=8), ShiftCrop(padding=7, padding_mode="reflect")])
def test_the_largest_that_fits_is_taken(option):
    option.prepare_(nn.Identity(), (1, 8, 9), 10)
    assert seen(option, torch.ones(20, 1, 8, 9)).shape == (20, 1, 8, 9)


def test_a_run_on_features_is_refused_and_told_how():
    from sweepwise import run

    with pytest.raises(UsageError, match=r"^regularizer=flip: .*use data=digits data\.image=true"):
        run.build(composed(["data=digits", "regularizer=flip", "trainer.device=cpu"], CONF))


@pytest.mark.parametrize(
    ("target", "values"),
    [
        ("label_smoothing.LabelSmoothing", {"smoothing": 1}),
        ("clip_norm.ClipNorm", {"max_norm": 0}),
        ("clip_value.ClipValue", {"limit": 0.0}),
        ("max_norm.MaxNorm", {"limit": 0}),
        ("orthogonal.Orthogonal", {"coefficient": -1e-9}),
        ("spectral_norm.SpectralNorm", {"n_power_iterations": 0}),
        ("input_noise.InputNoise", {"std": -0.1}),
        ("mixup.Mixup", {"alpha": -1}),
        ("cutout.Cutout", {"size": 2.5}),
        ("flip.Flip", {"p": 1.5}),
        ("shift_crop.ShiftCrop", {"padding": -1}),
        ("shift_crop.ShiftCrop", {"padding_mode": "wrap"}),
        ("rotation.Rotation", {"degrees": 181}),
    ],
)
def test_options_out_of_range(target, values):
    faults: list[str] = []
    bind("regularizer", {"_target_": f"sweepwise.regularizer.{target}", **values}, faults)
    assert len(faults) == 1 and faults[0].startswith(f"regularizer.{next(iter(values))}=")


# --- cutout


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_square_is_cut_out_of_each_image_by_itself(size):
    x = images(300)
    cut = seen(Cutout(size=size), x)
    masked = cut == 0
    assert torch.equal(cut, torch.where(masked, 0, x))
    assert torch.equal(masked[:, 0], masked[:, 1])
    places = set()
    for mask in masked[:, 0]:
        rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()
        assert torch.equal(mask, mask.any(1)[:, None] & mask.any(0)[None])  # a rectangle
        assert rows == list(range(rows[0], rows[-1] + 1)) and columns == list(
            range(columns[0], columns[-1] + 1)
        )
        # only the border makes it smaller, and the centre is a pixel
        assert size >= len(rows) >= -(-size // 2) and size >= len(columns) >= -(-size // 2)
        assert len(rows) == size or rows[0] == 0 or rows[-1] == 4
        assert len(columns) == size or columns[0] == 0 or columns[-1] == 6
        places.add((rows[0], rows[-1], columns[0], columns[-1]))
    if size <= 3:
        assert len(places) == 5 * 7  # each pixel is the centre of some square


# --- flip


def test_flips_are_torchs_and_twice_is_nothing():
    x = images(50)
    all_of_them = Flip(p=1.0)
    assert torch.equal(seen(all_of_them, x), x.flip(-1))
    assert torch.equal(seen(all_of_them, seen(all_of_them, x)), x)
    some = seen(Flip(p=0.5), x)
    flipped = (some != x).flatten(1).any(1)
    assert torch.equal(some, torch.where(flipped[:, None, None, None], x.flip(-1), x))
    assert 0 < flipped.sum() < 50
    assert torch.equal(seen(Flip(p=0.5), some), x)  # the same draws undo it


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_as_many_are_flipped_as_asked_for(p):
    flipped = int((seen(Flip(p=p), images(4000)) != images(4000)).flatten(1).any(1).sum())
    assert stats.binomtest(flipped, 4000, p).pvalue > 1e-3


# --- shift_crop


def shifts(x: Tensor, cropped: Tensor, padding: int, mode: str) -> list[tuple[int, int]]:
    """The shift of each image, found by comparing with every slice of the padded one."""
    padded = functional.pad(x[:1], (padding,) * 4, mode=mode)[0]
    height, width = x.shape[2:]
    slices = {
        padded[:, row : row + height, column : column + width].numpy().tobytes(): (row, column)
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    }
    assert len(slices) == (2 * padding + 1) ** 2
    return [slices[image.numpy().tobytes()] for image in cropped]


@pytest.mark.parametrize(("padding_mode", "mode"), [("zeros", "constant"), ("reflect", "reflect")])
def test_crops_are_slices_of_the_padded_image_and_all_alike_probable(padding_mode, mode):
    x = images(2500)
    found = shifts(x, seen(ShiftCrop(padding=2, padding_mode=padding_mode), x), 2, mode)
    counts = np.zeros((5, 5))
    for place in found:
        counts[place] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


# --- rotation


@pytest.mark.parametrize("turns", [-2, -1, 0, 1, 2, 3])
def test_quarter_turns_are_those_of_rot90(turns):
    x = images(3, height=6, width=6)
    angles = torch.full((3,), turns * np.pi / 2)
    torch.testing.assert_close(rotated(x, angles), torch.rot90(x, turns, (2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 8), (8, 5)])
def test_any_angle_is_scipys_bilinear_rotation(height, width):
    x = torch.randn(4, 2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    degrees = torch.tensor([0.0, 17.0, -63.0, 140.0], dtype=torch.float64)
    expected = [
        ndimage.rotate(image, angle, axes=(2, 1), reshape=False, order=1, mode="grid-constant")
        for image, angle in zip(x.numpy(), degrees.tolist(), strict=True)
    ]
    expected = torch.from_numpy(np.stack(expected))
    torch.testing.assert_close(rotated(x, degrees.deg2rad()), expected, rtol=1e-9, atol=1e-9)


def test_each_image_is_turned_by_its_own_angle_within_the_limit():
    """The angle is read off a gradient image in its middle, where what lies outside does not reach."""
    side, degrees = 31, 40.0
    x = torch.arange(side, dtype=torch.float64).sub(side // 2).expand(1500, 1, side, side).clone()
    turned = seen(Rotation(degrees=degrees), x)[:, 0]
    middle = side // 2
    right = turned[:, middle, middle + 1] - turned[:, middle, middle - 1]
    down = turned[:, middle + 1, middle] - turned[:, middle - 1, middle]
    angles = torch.atan2(-down, right).rad2deg()
    assert angles.abs().max() <= degrees + 1e-6
    assert stats.kstest(angles.numpy(), stats.uniform(-degrees, 2 * degrees).cdf).pvalue > 1e-3
