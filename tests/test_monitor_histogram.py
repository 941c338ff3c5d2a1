"""Histograms against numpy, and against bins written down from the definition of a float32."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.summary_pb2 import HistogramProto
from tensorboard.plugins.distribution.compressor import compress_histogram_proto

from sweepwise.monitor.histogram import _DOT, _PIECE, _SHORT, _on_the_cpu, _on_the_device, histograms

TINY = 2.0**-129
LARGEST = torch.finfo(torch.float32).max
FLOATS = st.floats(width=32) | st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 2.0**-149, -TINY, LARGEST, -(2.0**-126)]
)


def one(*values, dtype=torch.float32):
    return histograms({"x": torch.tensor(values, dtype=dtype)})["x"]


def bin_of(x):
    """Edges (left, right) of the bin of x: eight an octave, linear below the smallest normal float32."""
    size = abs(x)
    if size < TINY:
        return -TINY, TINY
    if size < 2.0**-126:
        left, right = math.floor(size / TINY) * TINY, (math.floor(size / TINY) + 1) * TINY
    else:
        mantissa, exponent = math.frexp(size)  # mantissa in [0.5, 1)
        eighth = math.floor(mantissa * 16)
        left, right = math.ldexp(eighth / 16, exponent), math.ldexp((eighth + 1) / 16, exponent)
    return (left, right) if x > 0 else (-right, -left)


def bins_of(histogram):
    """Non-empty bins as {right edge: count}."""
    pairs = zip(histogram.limits.tolist(), histogram.counts.tolist(), strict=True)
    return {limit: count for limit, count in pairs if count}


@given(st.lists(st.lists(FLOATS, max_size=40), max_size=4))
def test_any_numbers(lists):
    found = histograms({str(i): torch.tensor(values) for i, values in enumerate(lists)})
    assert list(found) == [str(i) for i in range(len(lists))]
    for histogram, values in zip(found.values(), lists, strict=True):
        finite = [x for x in values if math.isfinite(x)]
        assert histogram.count == len(finite) == histogram.counts.sum()
        assert histogram.nonfinite == len(values) - len(finite)
        assert histogram.zeros == sum(abs(x) < TINY for x in finite)
        assert bins_of(histogram) == Counter(bin_of(x)[1] for x in finite)
        assert np.all(np.diff(histogram.limits) > 0)
        if finite:
            assert (histogram.minimum, histogram.maximum) == (min(finite), max(finite))
            rounding = 1e-6 * max(map(abs, finite))
            assert histogram.minimum - rounding <= histogram.mean <= histogram.maximum + rounding
            assert histogram.limits[0] >= histogram.minimum
            assert histogram.limits[-1] >= histogram.maximum
            magnitude = math.fsum(abs(x) for x in finite)
            assert histogram.total == pytest.approx(math.fsum(finite), abs=1e-6 * magnitude)
            assert histogram.squares == pytest.approx(math.fsum(x * x for x in finite), rel=1e-5)


@given(st.lists(FLOATS.filter(math.isfinite), min_size=1, max_size=40))
def test_runs_of_empty_bins_are_one_bin(values):
    histogram = one(*values)
    counts = histogram.counts.tolist()
    assert counts[0] > 0
    assert counts[-1] > 0
    assert not any(a == b == 0 for a, b in itertools.pairwise(counts))
    occupied = sorted({bin_of(x) for x in values})
    edges = {edge for pair in occupied for edge in pair} - {occupied[0][0]}
    assert histogram.limits.tolist() == sorted(edges)


def test_counts_are_numpys():
    torch.manual_seed(0)
    x = torch.randn(100_000, dtype=torch.float64).exp().float() * torch.randn(100_000).sign()
    histogram = histograms({"x": x})["x"]
    edges = [histogram.minimum, *histogram.limits]
    assert not set(x.tolist()) & set(edges[1:])  # numpy closes bins on the left, for negative numbers too
    assert histogram.counts.tolist() == np.histogram(x.numpy().astype(np.float64), edges)[0].tolist()


@pytest.mark.parametrize("size", [1000, 3 * _PIECE + 5])
@pytest.mark.parametrize("mean", [0.0, 1.0, 5.0, 1e3])
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1.0, 1e22])
def test_moments_are_numpys(size, mean, scale):
    torch.manual_seed(0)
    x = (torch.randn(size) + mean) * scale
    histogram = histograms({"x": x})["x"]
    wide = x.numpy().astype(np.float64)
    assert histogram.mean == pytest.approx(wide.mean(), abs=1e-6 * wide.std())
    assert histogram.std == pytest.approx(wide.std(), rel=2e-6)
    assert (histogram.minimum, histogram.maximum) == (wide.min(), wide.max())


def test_moments_when_each_rounding_errs_the_same_way():
    x = torch.full((3 * _PIECE + 5,), 0.7)
    x[::2] = -0.7
    histogram = histograms({"x": x})["x"]
    assert histogram.std == pytest.approx(float(np.float32(0.7)), rel=1e-5)


def test_std_of_small_deviations():
    gain = 1 + 1e-3 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert histograms({"x": gain})["x"].std == pytest.approx(
        gain.double().std(correction=0).item(), rel=1e-12
    )


def test_std_far_from_zero():
    x = 1e6 + torch.arange(8, dtype=torch.float32)
    histogram = histograms({"x": x})["x"]
    assert histogram.std == pytest.approx(x.double().std(correction=0).item(), rel=1e-12)


def test_both_ways_to_summarise_agree():
    torch.manual_seed(0)
    sizes = [3, 0, _SHORT - 1, _SHORT, _DOT + 1, _PIECE, 2 * _PIECE + 1, 0]
    parts = [torch.randn(size) for size in sizes]
    parts.append(torch.tensor([math.nan, 1.0, -math.inf, -0.0]))
    for here, there in zip(_on_the_cpu(parts), _on_the_device(parts), strict=True):
        np.testing.assert_allclose(here[0], there[0], rtol=1e-5, atol=1e-2)  # atol: the sum cancels
        np.testing.assert_array_equal(here[1], there[1])
        assert here[2] == there[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_the_gpu_as_on_the_cpu():
    torch.manual_seed(0)
    tensors = {
        "a": torch.randn(100, 30),
        "none": torch.empty(0),
        "bad": torch.tensor([1.0, math.nan, -math.inf]),
    }
    there = histograms({name: tensor.cuda() for name, tensor in tensors.items()})
    for name, here in histograms(tensors).items():
        np.testing.assert_array_equal(there[name].counts, here.counts)
        np.testing.assert_array_equal(there[name].limits, here.limits)
        assert there[name].total == pytest.approx(here.total, abs=1e-6 * here.counts.sum())
        assert there[name].squares == pytest.approx(here.squares, rel=1e-5)
        assert there[name].nonfinite == here.nonfinite


def test_no_tensor():
    assert histograms({}) == {}


@pytest.mark.parametrize("values", [(), (math.nan,), (math.inf, -math.inf, math.nan)])
def test_no_finite_element(values):
    histogram = one(*values)
    assert (histogram.count, histogram.total, histogram.squares) == (0, 0.0, 0.0)
    assert histogram.nonfinite == len(values)
    assert len(histogram.limits) == len(histogram.counts) == 0
    numbers = [histogram.minimum, histogram.maximum, histogram.mean, histogram.std, histogram.zero_share]
    assert all(map(math.isnan, numbers))


def test_one_element():
    histogram = one(-3.0)
    assert (histogram.minimum, histogram.maximum, histogram.mean, histogram.std) == (-3.0, -3.0, -3.0, 0.0)
    assert (histogram.limits.tolist(), histogram.counts.tolist()) == ([-3.0], [1])


def test_all_equal():
    histogram = one(*[0.1] * 7)
    assert histogram.count == 7
    assert histogram.mean == pytest.approx(float(np.float32(0.1)), rel=1e-15)
    assert histogram.std < 1e-8
    assert histogram.counts.tolist() == [7]


def test_zeros_of_both_signs_share_a_bin():
    histogram = one(0.0, -0.0, 1.0, -1.0)
    assert (histogram.zeros, histogram.zero_share) == (2, 0.5)
    assert bins_of(histogram) == {-1.0: 1, TINY: 2, 1.125: 1}


def test_all_zero():
    histogram = one(0.0, 0.0)
    assert (histogram.zeros, histogram.minimum, histogram.maximum, histogram.std) == (2, 0.0, 0.0, 0.0)
    assert histogram.counts.tolist() == [2]


def test_largest_and_smallest():
    histogram = one(LARGEST, -LARGEST, 2.0**-149, -(2.0**-149), 2.0**-126)
    assert (histogram.maximum, histogram.minimum) == (LARGEST, -LARGEST)
    assert histogram.squares == 2 * LARGEST**2
    assert histogram.limits[-1] == 2.0**128
    assert histogram.zeros == 2


def test_nan_of_every_sign_and_payload():
    bits = torch.tensor([0x7F800001, 0x7FFFFFFF, -0x7FFFFF, -1, -0x400000], dtype=torch.int32)
    x = torch.cat([bits.view(torch.float32), torch.tensor([2.0, 3.0])])
    histogram = histograms({"before": torch.ones(3), "x": x, "after": torch.ones(3)})["x"]
    assert (histogram.nonfinite, histogram.count, histogram.total, histogram.squares) == (5, 2, 5.0, 13.0)
    assert (histogram.minimum, histogram.maximum) == (2.0, 3.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_other_types_are_read_as_float32(dtype):
    torch.manual_seed(0)
    x = (torch.randn(100) * 4).to(dtype)
    found = histograms({"x": x, "y": torch.ones(2)})
    expected = histograms({"x": x.float()})["x"]
    np.testing.assert_array_equal(found["x"].limits, expected.limits)
    np.testing.assert_array_equal(found["x"].counts, expected.counts)
    assert found["y"].total == 2.0


def test_float64_beyond_float32_is_infinite():
    assert one(1e300, 1.0, dtype=torch.float64).nonfinite == 1


def test_strides_shapes_and_gradients():
    x = torch.arange(24.0).reshape(2, 3, 4).requires_grad_()
    found = histograms({"t": x.transpose(0, 2)[::2], "scalar": x[0, 0, 1], "expanded": x[0, 0, 1].expand(5)})
    assert found["t"].total == x.detach().numpy().T[::2].sum()
    assert (found["scalar"].count, found["expanded"].count) == (1, 5)
    assert histograms({"parameter": torch.nn.Parameter(torch.ones(3))})["parameter"].count == 3


def test_input_is_not_changed():
    x = torch.tensor([1.0, -2.0, 3.0])
    histograms({"x": x})
    assert x.tolist() == [1.0, -2.0, 3.0]


def test_tensors_do_not_mix():
    torch.manual_seed(0)
    tensors = {str(i): torch.randn(50) * 10.0 ** (5 * i) for i in range(-4, 5)}
    for name, together in histograms(tensors).items():
        alone = histograms({name: tensors[name]})[name]
        np.testing.assert_array_equal(together.limits, alone.limits)
        np.testing.assert_array_equal(together.counts, alone.counts)


def test_tensorboards_percentiles_are_right():
    torch.manual_seed(0)
    x = torch.randn(100_000) * 2 - 1
    h = histograms({"x": x})["x"]
    proto = HistogramProto(min=h.minimum, max=h.maximum, num=h.count, bucket_limit=h.limits, bucket=h.counts)
    for basis_points, value in compress_histogram_proto(proto):
        assert value == pytest.approx(np.percentile(x.numpy(), basis_points / 100), abs=0.02)
