"""Sets made from a seed, against closed forms and scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.linear_model import LinearRegression

from sweepwise.data import split
from sweepwise.data.synthetic import blobs, linear, moons, true_weights


def test_moons_are_those_of_sklearn():
    for points in (4, 100, 101):
        x, y = make_moons(points, shuffle=False)
        arrays = moons(points=points, noise=0)
        np.testing.assert_allclose(arrays.x, x, atol=1e-12)
        assert arrays.y.tolist() == y.tolist()


def test_noise_has_its_deviation():
    added = moons(points=20_000, noise=0.3).x - moons(points=20_000, noise=0).x
    np.testing.assert_allclose([added.mean(), added.std()], [0, 0.3], atol=0.006)  # 4 standard errors


def test_blobs_are_clouds_around_their_centres():
    arrays = blobs(points=30_001, features=4, centers=3, std=2.0)
    middles = blobs(points=30_001, features=4, centers=3, std=0).x[:3]
    assert np.bincount(arrays.y).tolist() == [10_001, 10_000, 10_000] and np.abs(middles).max() <= 10
    for label in range(3):
        cloud = arrays.x[arrays.y == label]
        np.testing.assert_allclose(cloud.mean(0), middles[label], atol=4 * 2 / 100)
        np.testing.assert_allclose(np.cov(cloud.T), 4 * np.eye(4), atol=4 * 4 * 2**0.5 / 100)
    with pytest.raises(ValueError, match=r"data\.points=4: must be at least the 5 of data\.centers"):
        blobs(points=4, centers=5)


def test_a_regression_finds_the_true_weights():
    arrays = linear(points=20_000, features=7, noise=0.5, generator_seed=3)
    fitted = LinearRegression().fit(arrays.x, arrays.y)
    np.testing.assert_allclose(fitted.coef_, true_weights(7, 3), atol=4 * 0.5 / 20_000**0.5)
    assert np.std(arrays.y - arrays.x @ true_weights(7, 3)) == pytest.approx(0.5, rel=0.02)
    exact = linear(features=7, noise=0, generator_seed=3)
    np.testing.assert_allclose(exact.y, exact.x @ true_weights(7, 3), rtol=1e-12)


def test_scaled_weights_come_back_to_the_true_ones():
    arrays = linear(noise=0)
    data = split(arrays)
    fitted = LinearRegression().fit(data.train.x.double().numpy(), data.train.y.double().numpy())
    raw = split(arrays, standardize=False).train.x.double().numpy()
    weights = fitted.coef_ * data.target_std / raw.std(0)
    np.testing.assert_allclose(weights, true_weights(), atol=1e-5)


@pytest.mark.parametrize("make", [blobs, moons, linear])
def test_the_generator_seed_makes_the_points_and_nothing_else(make):
    np.random.seed(5)
    state = np.random.get_state()[1].tolist()
    first = make(generator_seed=0)
    assert np.random.get_state()[1].tolist() == state
    again, other = make(generator_seed=0), make(generator_seed=1)
    assert np.array_equal(first.x, again.x) and np.array_equal(first.y, again.y)
    assert not np.array_equal(first.x, other.x)
    assert split(first, split_seed=1).sha256 == split(first).sha256 != split(other).sha256
