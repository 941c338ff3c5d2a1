"""Examples that stay on disk, against the same arrays in memory."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from sweepwise.data import Arrays, Data, Part, scaling, split
from sweepwise.data.loading import Batches, evaluation_batches
from sweepwise.data.memmap import memmap
from sweepwise.data.stored import StoredPart

SETS = [((6,), np.float64), ((6,), np.float32), ((3, 4, 5), np.uint8), ((2,), bool), ((4,), np.int16)]
OPTIONS = {"batch_size": 8, "validation": 0.2, "test": 0.2}


def saved(tmp_path, x: np.ndarray, y: np.ndarray) -> dict[str, str]:
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    return {"x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy")}


def drawn(shape: tuple[int, ...], kind: type, examples: int = 70) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.normal(3, 40, (examples, *shape)).astype(kind), draw.integers(0, 3, examples)


def both(tmp_path, shape=(6,), kind=np.float64, **options) -> tuple[Data, Data]:
    """The same set on disk and in memory."""
    x, y = drawn(shape, kind)
    options = OPTIONS | options
    return (
        split(memmap(**saved(tmp_path, x, y), classes=3), **options),
        split(Arrays("memory", x, y, 3), **options),
    )


def same(ours, theirs) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(x, u) and torch.equal(y, v) and x.dtype == u.dtype for (x, y), (u, v) in pairs)


@pytest.mark.parametrize(("shape", "kind"), SETS)
@pytest.mark.parametrize("standardize", [True, False])
def test_batches_are_those_of_the_same_arrays_in_memory(shape, kind, standardize, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "PIECE_BYTES", 8 * 100)
    stored, memory = both(tmp_path, shape, kind, standardize=standardize)
    assert isinstance(stored.train, StoredPart) and isinstance(memory.train, Part)
    assert (stored.features, stored.sha256, stored.outputs) == (memory.features, memory.sha256, 3)
    for seeds in ([0], [3, 4]):
        ours, theirs = Batches(stored, seeds), Batches(memory, seeds)
        assert all(same(ours.epoch(epoch), theirs.epoch(epoch)) for epoch in (0, 1))
    assert same([stored.sample(9)], [memory.sample(9)]) and same([stored.sample(99)], [memory.sample(99)])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_read_the_same_batches(workers, tmp_path):
    stored, memory = both(tmp_path, (3, 4, 5), np.uint8)
    batches = Batches(stored, [5], workers)
    assert all(same(batches.epoch(epoch), Batches(memory, [5]).epoch(epoch)) for epoch in (0, 1))


@pytest.mark.parametrize("limit", [1, 4, 14, 2048])
def test_evaluation_reads_a_part_in_order_again_and_again(limit, tmp_path, monkeypatch):
    monkeypatch.setattr("sweepwise.data.loading.EVALUATION_BATCH", limit)
    stored, memory = both(tmp_path)
    for ours, theirs in ((stored.validation, memory.validation), (stored.test, memory.test)):
        batches = evaluation_batches(ours)
        assert len(batches) == -(-14 // limit)
        assert same(batches, evaluation_batches(theirs)) and same(batches, evaluation_batches(theirs))


def test_without_shuffling_the_order_is_the_stored_one(tmp_path):
    stored, memory = both(tmp_path, shuffle=False)
    x = torch.cat([x for x, _ in Batches(stored, [0]).epoch(3)])
    assert torch.equal(x, memory.train.x)


def test_fewer_examples_and_wrong_labels(tmp_path):
    stored, memory = both(tmp_path, examples=40, label_noise=0.3)
    assert len(stored.train.y) == 24 and stored.notes == memory.notes != ()
    assert same(Batches(stored, [0]).epoch(0), Batches(memory, [0]).epoch(0))


def test_a_process_that_is_started_afresh_opens_the_file_again(tmp_path):
    stored, memory = both(tmp_path, (64, 8, 8), np.float64)
    sent = pickle.dumps(stored.train)
    assert len(sent) < 10_000 < stored.train.x.nbytes
    index = torch.tensor([5, 0, 41])
    assert same([pickle.loads(sent).take(index)], [memory.train.take(index)])


def test_a_part_of_a_file_is_sent_as_it_is(tmp_path):
    x, y = drawn((6,), np.float64)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")[10:]
    stored = split(Arrays("part", mapped, y[10:], 3), **OPTIONS).train
    memory = split(Arrays("part", x[10:], y[10:], 3), **OPTIONS).train
    index = torch.tensor([3, 1])
    for part in (stored, pickle.loads(pickle.dumps(stored))):
        assert same([part.take(index)], [memory.take(index)])


def test_to_moves_what_is_read(tmp_path):
    stored, _ = both(tmp_path)
    x, y = stored.to("meta").train.take(torch.tensor([1, 2]))
    assert x.is_meta and y.is_meta and x.shape == (2, 6)


# --- what is asked of the files


@pytest.mark.parametrize(
    ("values", "classes", "expected", "labels"),
    [
        (np.arange(40) % 4, None, 4, (np.arange(40) % 4).tolist()),
        (np.array(["b", "a"] * 20), None, 2, [1, 0] * 20),
        (np.array([5, 9] * 20, np.uint8), None, 2, [0, 1] * 20),
        (np.linspace(0, 1, 40), None, 0, np.linspace(0, 1, 40).tolist()),
        (np.arange(40) % 4, 0, 0, (np.arange(40.0) % 4).tolist()),
        (np.arange(40) % 4, 7, 7, (np.arange(40) % 4).tolist()),
    ],
)
def test_classes_are_found_out_or_given(values, classes, expected, labels, tmp_path):
    arrays = memmap(**saved(tmp_path, np.zeros((40, 2)), values), classes=classes)
    assert (arrays.classes, arrays.y.tolist(), arrays.name) == (expected, labels, "x.npy")
    assert isinstance(arrays.x, np.memmap) and not arrays.x.flags.writeable


X, Y = np.zeros((10, 2)), np.arange(10) % 2


@pytest.mark.parametrize(
    ("x", "y", "classes", "message"),
    [
        (
            X,
            Y[:9],
            None,
            "data.y=y.npy: must hold a target for each of the 10 examples of data.x=x.npy: found",
        ),
        (X, Y[:, None], None, "found int64 (10, 1)"),
        (np.zeros(10), Y, None, "data.x=x.npy: must hold real numbers (examples, ...): found float64 (10,)"),
        (X.astype(complex), Y, None, "found complex128 (10, 2)"),
        (np.array([[print]] * 10), Y, None, "data.x=x.npy: cannot be read as .npy"),
        (X, np.array([print] * 10), None, "data.y=y.npy: cannot be read as .npy"),
        (np.asfortranarray(np.ones((10, 2))), Y, None, "data.x=x.npy: must be in C order"),
        (X, Y, 1, "must hold whole numbers from 0 to 0 with data.classes=1"),
        (X, -Y, 2, "must hold whole numbers from 0 to 1"),
        (X, Y * 0.5, 2, "must hold whole numbers from 0 to 1"),
        (X, np.where(Y, np.nan, 1.0), None, "data.y=y.npy: 5 of 10 values are missing or not finite"),
    ],
)
def test_bad_files_are_refused(x, y, classes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, x, y)
    with pytest.raises(ValueError) as caught:
        memmap(x="x.npy", y="y.npy", classes=classes)
    assert message in str(caught.value)


def test_files_that_are_no_arrays_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, X, Y)
    whole = (tmp_path / "x.npy").read_bytes()
    for content in (b"", b"garbage", whole[:100], whole[:-8]):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"^data\.x=x\.npy: cannot be read as \.npy"):
            memmap(x="x.npy", y="y.npy")
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ValueError, match=r"data\.x=x\.npy: no such file, seen from"):
        memmap(x="x.npy", y="y.npy")
    np.savez(tmp_path / "x.npz", X)
    with pytest.raises(ValueError, match=r"data\.x=x\.npz: cannot be read as \.npy"):
        memmap(x="x.npz", y="y.npy")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what is not mapped from files there")
def test_a_run_needs_less_memory_than_its_data(tmp_path):
    # 320 MB as uint8, 1.3 GB as float32; the limit leaves 250 MB beside what torch takes.
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (20_000, 1, 125, 128))
    x[::7] = np.random.default_rng(0).integers(0, 256, (1, 1, 125, 128), np.uint8)
    x.flush()
    np.save(tmp_path / "y.npy", np.arange(20_000) % 2)
    code = f"""
import resource
from sweepwise.data import split
from sweepwise.data.loading import Batches, evaluation_batches
from sweepwise.data.memmap import memmap
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status["VmData"].split()[0]) * 1024 + 250_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
data = split(memmap(x={str(tmp_path / "x.npy")!r}, y={str(tmp_path / "y.npy")!r}))
read = sum(len(y) for x, y in Batches(data, [0]).epoch(0))
read += sum(len(y) for part in (data.validation, data.test) for x, y in evaluation_batches(part))
print(read)
try:
    data.train.x[:].copy()
except MemoryError:
    print("bounded")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["20000", "bounded"], done.stderr
