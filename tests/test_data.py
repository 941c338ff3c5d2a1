import hashlib
import inspect
import random

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.preprocessing import StandardScaler
from small import CONF, option_of

from sweepwise.config import schema
from sweepwise.data import Arrays, Data, scaling, split
from sweepwise.data import digits as digits_module
from sweepwise.data.digits import _arrays, digits
from sweepwise.data.mnist1d import FINGERPRINTS, mnist1d
from sweepwise.data.scaling import moments, standardizing
from sweepwise.data.sklearn_sets import breast_cancer, diabetes, wine

OPTIONS = sorted((CONF / "data").glob("*.yaml"))
SIZES = {
    digits: (1078, 360, 359, (64,), 10),
    breast_cancer: (341, 114, 114, (30,), 2),
    wine: (107, 35, 36, (13,), 3),
    diabetes: (265, 89, 88, (10,), 0),
}
LOADERS = {
    digits: sklearn.datasets.load_digits,
    breast_cancer: sklearn.datasets.load_breast_cancer,
    wine: sklearn.datasets.load_wine,
    diabetes: lambda **options: sklearn.datasets.load_diabetes(scaled=False, **options),
}
PLAIN = {"batch_size": 4, "standardize": False}
OF_SET = {"classes", "x_test", "y_test", "notes"}


def rows_of(x: np.ndarray, y: np.ndarray, *, classes: int = 100, **changes) -> Data:
    own = {key: value for key, value in changes.items() if key in OF_SET}
    outer = {key: value for key, value in changes.items() if key not in OF_SET}
    return split(Arrays("rows", x, y, classes, **own), **{**PLAIN, **outer})


def numbered(**changes) -> Data:
    """100 examples, each with its number as its only feature and its class, so that a part shows its rows."""
    number = np.arange(100)
    return rows_of(number[:, None].astype(float), number, **changes)


def parts(data: Data):
    return data.train, data.validation, data.test


def global_states():
    numpy_state = np.random.get_state()
    return random.getstate(), numpy_state[1].tolist(), numpy_state[2:], torch.get_rng_state().tolist()


@pytest.fixture(scope="module")
def signals():
    """MNIST-1D, and the global generators before and after it was made."""
    before = global_states()
    return split(mnist1d(), standardize=False), before, global_states()


@pytest.mark.parametrize("load", SIZES, ids=lambda load: load.__name__)
def test_sizes_shapes_and_types(load):
    data = split(load())
    *sizes, features, classes = SIZES[load]
    assert [len(part.y) for part in parts(data)] == [len(part.x) for part in parts(data)] == sizes
    assert (data.name, data.features, data.classes, data.outputs) == (
        load.__name__,
        features,
        classes,
        classes if classes else 1,
    )
    for part in parts(data):
        assert part.x.dtype == torch.float32 and part.x.is_contiguous() and part.x.isfinite().all()
        assert (
            part.y.dtype == (torch.int64 if classes else torch.float32) and part.y.shape == part.x.shape[:1]
        )


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_holds_every_example_of_the_loader_once(load):
    x, y = LOADERS[load](return_X_y=True)
    data = split(load(), standardize=False)
    ours = [
        np.append(row, target * data.target_std + data.target_mean)
        for part in parts(data)
        for row, target in zip(part.x.double().numpy(), part.y.double().numpy(), strict=True)
    ]
    theirs = np.column_stack([x, y])
    ours, theirs = (np.array(sorted(np.float32(rows).tolist())) for rows in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_digits_are_read_as_the_loader_reads_them(monkeypatch):
    ours = _arrays()
    monkeypatch.setattr(digits_module, "TABLE", "moved/digits.csv.gz")
    fallback = _arrays()
    loader = sklearn.datasets.load_digits(return_X_y=True)
    for read, reference in ((ours, loader), (fallback, loader)):
        np.testing.assert_array_equal(read[0], reference[0], strict=True)
        np.testing.assert_array_equal(read[1], reference[1])


def test_split_is_disjoint_and_exhaustive():
    data = numbered()
    rows = torch.cat([part.y for part in parts(data)])
    assert rows.sort().values.tolist() == list(range(100))
    assert all(torch.equal(part.x[:, 0].long(), part.y) for part in parts(data))
    assert data.train.y.tolist() != sorted(data.train.y.tolist())


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [((0.2, 0.2), (60, 20, 20)), ((0.01, 0.01), (98, 1, 1)), ((0.5, 0.49), (1, 50, 49))],
)
def test_fractions(fractions, sizes):
    data = numbered(validation=fractions[0], test=fractions[1], batch_size=1)
    assert tuple(len(part.y) for part in parts(data)) == sizes


def test_split_follows_its_seed_alone():
    states = []
    data = []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        states.append(global_states())
        data.append(numbered())
        assert global_states() == states[-1]
    assert states[0] != states[1]
    assert all(torch.equal(a.y, b.y) for a, b in zip(parts(data[0]), parts(data[1]), strict=True))
    assert not torch.equal(numbered(split_seed=1).test.y, data[0].test.y)


def test_split_is_the_same_in_every_version():
    # PCG64's raw stream is guaranteed by numpy (NEP 19): a change here moves everyone's test examples.
    assert numbered(split_seed=0).test.y[:8].tolist() == [57, 12, 2, 39, 68, 59, 18, 74]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_split_is_unrelated_to_a_set_generated_with_the_same_seed(seed):
    x = np.random.default_rng(seed).uniform(size=(1000, 1))
    train, _, test = parts(rows_of(x, np.arange(1000), classes=1000, split_seed=seed))
    assert abs(train.x.mean() - test.x.mean()) < 4 * (1 / 12 / 600 + 1 / 12 / 200) ** 0.5


def test_own_test_part_stays_as_it_is():
    x, y = np.arange(80.0)[:, None], np.arange(80)
    own_x, own_y = np.arange(80.0, 100)[:, None], np.arange(80, 100)
    data = rows_of(x, y, x_test=own_x, y_test=own_y, test=0.7)
    assert [len(part.y) for part in parts(data)] == [60, 20, 20]
    assert data.test.y.tolist() == own_y.tolist() and data.test.x[:, 0].tolist() == own_y.tolist()
    assert sorted(torch.cat([data.train.y, data.validation.y]).tolist()) == y.tolist()


@pytest.mark.parametrize("load", SIZES, ids=lambda load: load.__name__)
def test_standardised_as_by_sklearn_on_the_training_part(load):
    raw, data = split(load(), standardize=False), split(load())
    scaler = StandardScaler().fit(raw.train.x.double().numpy())
    for plain, scaled in zip(parts(raw), parts(data), strict=True):
        expected = scaler.transform(plain.x.double().numpy())
        np.testing.assert_allclose(scaled.x.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_validation_and_test_examples_steer_nothing():
    x, y = np.random.default_rng(0).normal(size=(2, 100)).astype(np.float32)
    x = x[:, None]
    held_out = np.setdiff1d(np.arange(100), numbered().train.y.numpy())
    x_other, y_other = x.copy(), y.copy()
    x_other[held_out] += 1e3
    y_other[held_out] -= 1e3
    options = {"standardize": True, "classes": 0}
    one, other = rows_of(x, y, **options), rows_of(x_other, y_other, **options)
    assert torch.equal(one.train.x, other.train.x) and torch.equal(one.train.y, other.train.y)
    assert (one.target_mean, one.target_std) == (other.target_mean, other.target_std)
    assert not torch.equal(one.test.x, other.test.x)


def test_constant_features_are_only_centred():
    x = np.column_stack([np.full(100, 0.1), np.arange(100.0)])
    data = rows_of(x, np.arange(100), standardize=True)
    assert torch.allclose(data.train.x[:, 0], torch.zeros(60), atol=1e-7)
    assert torch.isclose(data.train.x[:, 1].std(correction=0), torch.tensor(1.0))


@pytest.mark.parametrize("standardize", [True, False])
def test_regression_targets_are_scaled_and_come_back(standardize):
    data = split(diabetes(), standardize=standardize)
    y = data.train.y.double().numpy()
    assert abs(y.mean()) < 1e-6 and abs(y.std() - 1) < 1e-6
    targets = np.concatenate([part.y.double().numpy() for part in parts(data)])
    original = np.sort(targets * data.target_std + data.target_mean)
    _, expected = sklearn.datasets.load_diabetes(return_X_y=True)
    np.testing.assert_allclose(original, np.sort(expected), rtol=1e-5)


def test_classes_are_not_scaled():
    data = split(wine())
    assert (data.target_mean, data.target_std) == (0.0, 1.0)


def test_order_is_a_pure_permutation_of_seed_and_epoch():
    data = numbered()
    pairs = [(seed, epoch) for seed in (0, 1, 2, 2**40) for epoch in range(4)]
    pairs += [(1, 11), (11, 1)]
    state = global_states()
    orders = {pair: data.order(*pair).tolist() for pair in pairs}
    assert global_states() == state
    torch.manual_seed(7)
    for pair, order in reversed(orders.items()):
        assert sorted(order) == list(range(60))
        assert numbered(split_seed=3).order(*pair).tolist() == order
    assert len({tuple(order) for order in orders.values()}) == len(pairs)
    assert data.order(0, 0).dtype == torch.int64


def test_order_is_uniform():
    first = torch.stack([numbered().order(seed, epoch)[0] for seed in range(40) for epoch in range(50)])
    counts = torch.bincount(first, minlength=60).double()
    chi_squared = ((counts - 2000 / 60) ** 2 / (2000 / 60)).sum()
    assert chi_squared < 98.3  # 59 degrees of freedom, 0.999


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 61}, "data.batch_size=61: must be at most the 60 training examples"),
        ({"batch_size": 0}, "data.batch_size=0: must be in [1, inf)"),
        ({"validation": -0.1}, "data.validation=-0.1: must be in [0, 1)"),
        ({"validation": float("nan")}, "data.validation=nan: must be finite"),
        ({"test": 1.0}, "data.test=1.0: must be in [0, 1)"),
        (
            {"validation": 0.5, "test": 0.5},
            "data.validation=0.5, data.test=0.5: must leave at least 1 of the 100 examples "
            "to each of training, validation and test; with 0 there is no such part",
        ),
        (
            {"validation": 0.6, "x_test": np.zeros((100, 1)), "y_test": np.arange(100)},
            "data.validation=0.6: must leave at least 1 of the 200 examples "
            "to each of training, validation and test; with 0 there is no such part",
        ),
        (
            {"validation": 0.001},
            "data.validation=0.001, data.test=0.2: must leave at least 1 of the 100 examples "
            "to each of training, validation and test; with 0 there is no such part",
        ),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ValueError) as caught:
        numbered(**changes)
    assert str(caught.value) == message


def test_largest_batch_is_the_training_part():
    assert numbered(batch_size=60).batch_size == 60
    with pytest.raises(
        ValueError, match=r"data\.batch_size=5000: must be at most the 1078 training examples"
    ):
        split(digits(), batch_size=5000)


def test_fingerprint_is_of_the_raw_arrays():
    x, y = np.arange(100.0)[:, None], np.arange(100)
    expected = hashlib.sha256(b"<f8(100, 1)" + x.tobytes() + b"<i8(100,)" + y.tobytes()).hexdigest()
    assert numbered().sha256 == numbered(split_seed=1, standardize=True).sha256 == expected
    assert rows_of(x + 1, y).sha256 != expected


def test_to_moves_every_part():
    data = split(wine()).to("meta")
    assert all(part.x.is_meta and part.y.is_meta for part in parts(data))
    assert data.order(0, 0).device.type == "cpu" and data.sha256 == split(wine()).sha256


def test_mnist1d_is_the_published_one(signals):
    data, _, _ = signals
    assert [len(part.y) for part in parts(data)] == [3000, 1000, 1000]
    assert (data.features, data.classes, data.train.x.dtype) == ((40,), 10, torch.float32)
    digest = hashlib.sha256(data.test.x.numpy().tobytes()).hexdigest()
    assert digest.startswith("30addc43827c82aa")
    assert torch.bincount(torch.cat([part.y for part in parts(data)])).tolist() == [500] * 10


def test_mnist1d_leaves_the_global_generators_alone(signals):
    _, before, after = signals
    assert before == after


def test_mnist1d_refuses_other_signals(monkeypatch):
    monkeypatch.setitem(FINGERPRINTS, "y", "0123456789abcdef")
    with pytest.raises(
        RuntimeError, match=r"generated y must have sha256 0123456789abcdef.*d97dc7aecec8ad6b"
    ):
        mnist1d()


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_option_states_every_keyword(path):
    node = option_of(path)
    faults = []
    load = schema.bind("data", node, faults, envelope=split).target.func
    assert faults == [] and load.__name__ == path.stem
    outer = {n for n, p in inspect.signature(split).parameters.items() if p.kind is p.KEYWORD_ONLY}
    keywords = {*inspect.signature(load).parameters, *outer}
    # A test part does not apply where the set brings its own; the order of published sets has no meaning.
    assert keywords - node.keys() <= {"test", "split_order"}
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_size", 0), ("split_seed", -1), ("validation", -1), ("validation", 1), ("standardize", 1)],
)
def test_schema_refuses_before_loading(key, value):
    faults = []
    node = {"_target_": "sweepwise.data.digits.digits", key: value}
    schema.bind("data", node, faults, envelope=split)
    assert len(faults) == 1 and faults[0].startswith(f"data.{key}={value}: must be")


def test_channels_are_scaled_one_by_one():
    x = np.random.default_rng(0).normal([[[3.0]], [[-2.0]]], [[[2.0]], [[5.0]]], (100, 2, 4, 4))
    x = x.reshape(100, 2, 4, 4)
    data = rows_of(x, np.arange(100), standardize=True)
    flat = data.train.x.double().transpose(0, 1).flatten(1)
    assert torch.allclose(flat.mean(1), torch.zeros(2, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(flat.std(1, correction=0), torch.ones(2, dtype=torch.float64), atol=1e-6)
    raw = rows_of(x, np.arange(100)).train.x
    assert torch.allclose(
        data.train.x[0, 1].diff() * raw[:, 1].std(correction=0), raw[0, 1].diff(), atol=1e-5
    )


def test_without_shuffling_the_order_is_the_stored_one():
    data = numbered(shuffle=False)
    assert data.order(0, 0).tolist() == data.order(5, 7).tolist() == list(range(60))
    assert data.train.y.tolist() == numbered().train.y.tolist()


def test_a_sample_is_the_beginning_of_the_training_part():
    data = numbered()
    x, y = data.sample(7)
    assert torch.equal(x, data.train.x[:7]) and torch.equal(y, data.train.y[:7])
    assert len(data.sample(1000)[1]) == 60


# --- scaling a piece at a time


@pytest.mark.parametrize("load", [digits, lambda: digits(image=True), breast_cancer, wine, diabetes])
def test_sets_of_one_piece_are_scaled_as_numpy_does_to_the_bit(load):
    arrays, data = load(), split(load())
    rows = np.split(scaling_order(len(arrays.x)), np.cumsum([len(part.y) for part in parts(data)[:2]]))
    train = arrays.x[rows[0]]
    axes = (0, 2, 3) if train.ndim > 2 else 0
    std = train.std(axes, keepdims=True)
    expected = (arrays.x - train.mean(axes, keepdims=True)) / np.where(std > 0, std, 1)
    for part, places in zip(parts(data), rows, strict=True):
        assert torch.equal(part.x, torch.from_numpy(expected[places].astype(np.float32)))


def scaling_order(size: int) -> np.ndarray:
    """The rows of the parts, one after the other, as the split of seed 0 orders them."""
    number = np.arange(size)
    data = rows_of(number[:, None], number, classes=size)
    return torch.cat([part.y for part in parts(data)]).numpy()


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("piece", [1, 8 * 24 * 7, 2**21])
def test_moments_of_many_pieces_are_those_of_all(shape, kind, piece, monkeypatch):
    monkeypatch.setattr(scaling, "PIECE_BYTES", piece)
    x = (np.random.default_rng(0).normal(100, 20, (50, *shape))).astype(kind)
    rows = np.random.default_rng(1).permutation(50)[:31]
    chosen = x[rows].astype(np.float64)
    axes = (0, 2, 3) if len(shape) == 3 else 0
    mean, std = moments(x, rows)
    np.testing.assert_allclose(mean, chosen.mean(axes), rtol=1e-14)
    np.testing.assert_allclose(std, chosen.std(axes), rtol=1e-13)


@pytest.mark.parametrize("piece", [1, 2**21])
def test_pieces_change_no_scaled_value(piece, monkeypatch):
    x = np.random.default_rng(0).normal(size=(50, 6))
    rows = np.arange(50)[::-3]
    scaled = standardizing(x, rows)
    monkeypatch.setattr(scaling, "PIECE_BYTES", piece)
    expected = ((x[rows] - scaled.mean) / scaled.std).astype(np.float32)
    assert np.array_equal(scaled.rows(x, rows), expected)


def test_a_constant_is_one_in_all_pieces(monkeypatch):
    monkeypatch.setattr(scaling, "PIECE_BYTES", 1)
    x = np.column_stack([np.full(9, 0.1), np.repeat([1.0, 2.0], [8, 1])])
    assert moments(x, np.arange(9))[1].tolist() == [1.0, x[:, 1].std()]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value):
    x = np.zeros((100, 3))
    x[:, 2] = value
    with pytest.raises(ValueError, match="data: feature 2 has values that are not finite"):
        rows_of(x, np.arange(100), standardize=True)


def test_a_test_part_of_another_type_is_scaled_alike():
    x = np.arange(100, dtype=np.uint8)[:, None]
    options = {"standardize": True, "y_test": np.arange(100)}
    one = rows_of(x, np.arange(100), x_test=x, **options)
    other = rows_of(x, np.arange(100), x_test=x.astype(np.float64), **options)
    assert torch.equal(one.test.x, other.test.x)


# --- fewer examples


def test_fewer_examples_are_a_fixed_random_part_of_the_set():
    few, more = (numbered(examples=examples, batch_size=1) for examples in (20, 50))
    assert [len(part.y) for part in parts(few)] == [12, 4, 4]
    assert [len(part.y) for part in parts(more)] == [30, 10, 10]
    of_few, of_more = (set(torch.cat([part.y for part in parts(d)]).tolist()) for d in (few, more))
    assert of_few < of_more and len(of_few) == 20 and max(of_few) > 60
    assert few.sha256 == numbered().sha256
    again = numbered(examples=20, batch_size=1, split_seed=1)
    assert set(torch.cat([part.y for part in parts(again)]).tolist()) != of_few


def test_all_examples_are_the_whole_set():
    whole, asked = numbered(), numbered(examples=100)
    assert all(torch.equal(a.y, b.y) for a, b in zip(parts(whole), parts(asked), strict=True))


def test_an_own_test_part_is_shortened_by_the_same_factor():
    own = {"x_test": np.arange(80.0, 100)[:, None], "y_test": np.arange(80, 100)}
    data = rows_of(np.arange(80.0)[:, None], np.arange(80), examples=50, batch_size=1, **own)
    assert [len(part.y) for part in parts(data)] == [30, 10, 10]
    assert data.test.y.tolist() == sorted(data.test.y.tolist()) and data.test.y.min() >= 80
    assert data.test.y.tolist() != list(range(80, 90))
    assert torch.cat([data.train.y, data.validation.y]).max() < 80


@pytest.mark.parametrize(
    ("examples", "rule"),
    [
        (0, "must be a whole number in [1, inf) or null"),
        (101, "must be from 1 to the 100 examples of the set"),
    ],
)
def test_no_more_examples_than_there_are(examples, rule):
    with pytest.raises(ValueError) as caught:
        numbered(examples=examples)
    assert str(caught.value) == f"data.examples={examples}: {rule}"


# --- wrong labels


@pytest.mark.parametrize(("rate", "wrong"), [(0.0, 0), (0.1, 6), (0.51, 31), (0.999, 60)])
def test_label_noise_changes_the_exact_share_of_training_labels(rate, wrong):
    clean, noisy = numbered(), numbered(label_noise=rate)
    changed = noisy.train.y != clean.train.y
    assert changed.sum() == wrong
    assert noisy.train.y.min() >= 0 and noisy.train.y.max() < 100
    for part, other in zip(parts(noisy), parts(clean), strict=True):
        assert torch.equal(part.x, other.x)
    assert torch.equal(noisy.validation.y, clean.validation.y) and torch.equal(noisy.test.y, clean.test.y)
    told = (f"data.label_noise={rate}: {wrong} of 60 training labels are wrong",) if rate else ()
    assert noisy.notes == (*clean.notes, *told) and noisy.sha256 == clean.sha256


def test_a_higher_rate_keeps_the_wrong_labels_of_a_lower():
    clean, low, high = (numbered(label_noise=rate).train.y for rate in (0.0, 0.2, 0.6))
    wrong = low != clean
    assert torch.equal(low[wrong], high[wrong]) and (high != clean).sum() == 36
    assert not torch.equal(numbered(label_noise=0.2, split_seed=1).train.y != clean, wrong)


def test_wrong_labels_are_uniform_over_the_other_classes():
    size, classes = 60_000, 4
    y = np.zeros(size, np.int64)
    data = rows_of(np.zeros((size, 1)), y, classes=classes, label_noise=0.5, validation=0.1, test=0.1)
    counts = torch.bincount(data.train.y, minlength=classes).double()
    assert counts[0] == 24_000
    assert ((counts[1:] - 8000) ** 2 / 8000).sum() < 13.8  # 2 degrees of freedom, 0.999


@pytest.mark.parametrize(
    ("classes", "rate", "message"),
    [
        (0, 0.1, "data.label_noise=0.1: must be 0 without at least two classes"),
        (100, 1.0, "data.label_noise=1.0: must be in [0, 1)"),
        (100, -0.1, "data.label_noise=-0.1: must be in [0, 1)"),
    ],
)
def test_label_noise_refused(classes, rate, message):
    with pytest.raises(ValueError) as caught:
        numbered(classes=classes, label_noise=rate)
    assert str(caught.value) == message


def test_notes_of_a_set_come_first():
    data = rows_of(np.zeros((100, 1)), np.arange(100) % 2, classes=2, notes=("read so",), label_noise=0.1)
    assert data.notes[0] == "read so" and len(data.notes) == 2
