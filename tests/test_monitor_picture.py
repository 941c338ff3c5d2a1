"""Pictures, read back by pillow; counts of a curve, against torch and scikit-learn."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_score, recall_score
from torch.utils.tensorboard.summary import compute_curve

from sweepwise.monitor.curves import THRESHOLDS, precision_recall
from sweepwise.monitor.picture import drawable, examples, matrix, png

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (64, 33), (300, 301)])
def test_a_png_is_read_back_by_pillow(shape):
    picture = GENERATOR.integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(png(picture)))
    image.verify()
    read = Image.open(io.BytesIO(png(picture)))
    assert (read.format, read.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(read), picture)


@pytest.mark.parametrize(
    ("features", "whether"),
    [((1, 8, 8), True), ((3, 8, 8), True), ((2, 8, 8), False), ((1, 40), True), ((64,), False), ((), False)],
)
def test_what_can_be_drawn(features, whether):
    assert drawable(features) == whether


def test_images_side_by_side_from_black_to_white():
    x = np.array([[[[-1.0, 0.0], [1.0, 3.0]]], [[[3.0, 3.0], [3.0, 3.0]]], [[[-1.0] * 2] * 2]])
    picture = examples(x)  # three in a square of two by two, 64 pixels each, 2 between
    assert picture.shape == (130, 130, 3) and picture.dtype == np.uint8
    grey = picture[..., 0]
    assert (picture == grey[..., None]).all()
    corners = [grey[0, 0], grey[0, 63], grey[63, 0], grey[63, 63]]
    assert corners == [0, round(255 / 4), round(255 / 2), 255]
    assert (grey[:64, 66:] == 255).all() and (grey[66:, :64] == 0).all()
    assert (grey[64:66] == 128).all() and (grey[66:, 66:] == 128).all()  # gaps, and the empty place


def test_colours_stay():
    x = np.zeros((1, 3, 1, 1))
    x[0, 2] = 1.0
    assert (examples(x) == (0, 0, 255)).all()


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_equal_values_and_no_values_can_be_drawn(value):
    assert (examples(np.full((1, 1, 2, 2), value)) == 0).all()
    assert (examples(np.full((2, 1, 9), value))[63] == 0).any()


def test_a_signal_is_a_line():
    rising = np.linspace(0, 1, 40)[None, None]
    black = examples(rising)[..., 0] == 0
    assert black.shape == (64, 160) and black.any(0).all()
    heights = [column.nonzero()[0].mean() for column in black.T]
    assert black[63, 0] and black[0, -1] and (np.diff(heights) <= 0).all()


def test_a_matrix_is_shaded_by_the_share_of_its_row():
    counts = np.array([[30, 10, 0], [0, 0, 0], [0, 0, 7]])
    picture = matrix(counts).astype(int)
    edge = picture.shape[0] // 4
    assert picture.shape == (4 * edge, 4 * edge, 3)
    deep = np.array([8, 48, 107])
    for row, shares in enumerate([[0.75, 0.25, 0], [0, 0, 0], [0, 0, 1]]):
        for column, share in enumerate(shares):
            cell = picture[(row + 1) * edge + 2, (column + 1) * edge + 2]
            assert np.abs(cell - (255 + share * (deep - 255))).max() <= 1


def test_numbers_are_in_their_cells():
    counts = np.array([[0, 8], [11, 5]])
    picture = matrix(counts)
    edge = picture.shape[0] // 3

    def ink(row, column, tone):
        cell = picture[row * edge + 2 : (row + 1) * edge, column * edge + 2 : (column + 1) * edge]
        return int((cell == tone).all(-1).sum())

    lit = {"0": 12, "1": 8, "5": 11, "8": 13}  # pixels of a 3 x 5 digit, each drawn as 2 x 2
    assert ink(0, 1, 0) == 4 * lit["0"] and ink(0, 2, 0) == 4 * lit["1"]  # the classes, on top
    assert ink(1, 0, 0) == 4 * lit["0"] and ink(2, 0, 0) == 4 * lit["1"]  # and at the left
    assert ink(1, 1, 0) == 0  # no number for nothing
    assert ink(1, 2, 255) == 4 * lit["8"]  # white on dark
    assert ink(2, 1, 255) == 2 * 4 * lit["1"]
    assert ink(2, 2, 0) == 4 * lit["5"]  # 5 of 16 is light


def test_a_large_matrix_has_shades_only():
    picture = matrix(np.eye(100, dtype=int))
    assert picture.shape == (1000, 1000, 3)
    assert (picture[5, 5] == (8, 48, 107)).all() and (picture[5, 15] == 255).all()
    assert matrix(np.eye(1, dtype=int)).shape[0] < 100


# --- precision over recall


def judged(examples, seed=0):
    generator = np.random.default_rng(seed)
    positive = generator.random(examples) < 0.3
    return np.clip(generator.normal(0.35 + 0.3 * positive, 0.2), 0, 1), positive


@pytest.mark.parametrize("examples", [1, 2, 1000])
def test_a_curve_is_that_of_torchs_summary_writer(examples):
    shares, positive = judged(examples)
    ours = precision_recall(shares, positive)
    assert ours.shape == (6, THRESHOLDS) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, compute_curve(positive, shares, THRESHOLDS), rtol=1e-6)


def test_a_curve_is_sklearns_precision_and_recall_at_each_threshold():
    shares, positive = judged(500)
    for place in range(0, THRESHOLDS, 7):
        called = shares >= place / (THRESHOLDS - 1)
        *_, precision, recall = precision_recall(shares, positive)[:, place]
        assert precision == pytest.approx(precision_score(positive, called, zero_division=0))
        assert recall == pytest.approx(recall_score(positive, called))


@pytest.mark.parametrize(
    ("shares", "positive", "first", "last"),
    [
        ([1.0, 0.0], [True, False], (1, 1, 0, 0, 0.5, 1), (1, 0, 1, 0, 1, 1)),
        ([0.5, 0.5], [False, False], (0, 2, 0, 0, 0, 0), (0, 0, 2, 0, 0, 0)),
        ([0.5, 0.5], [True, True], (2, 0, 0, 0, 1, 1), (0, 0, 0, 2, 0, 0)),
        ([1 + 1e-12], [True], (1, 0, 0, 0, 1, 1), (1, 0, 0, 0, 1, 1)),
        ([], [], (0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0)),
    ],
)
def test_ends_of_a_curve(shares, positive, first, last):
    found = precision_recall(np.array(shares, float), np.array(positive, bool))
    assert (tuple(found[:, 0]), tuple(found[:, -1])) == (first, last)
