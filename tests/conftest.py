"""One thread a worker; small files in the formats of the sets that cannot be had without a network."""

import gc
import gzip
import hashlib
import io
import os
import runpy
import signal
import sys
import tarfile
import uuid
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins

from sweepwise.data import cifar10, download, mnist
from sweepwise.monitor import appended

Plugins.instance()  # makes Hydra's sweeper anew, so before a test imports one of ours, which is made from it

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("untimed")

TRAIN, TEST, BATCH = 90, 30, 15  # images of the small MNISTs; images in a file of the small CIFAR


def pytest_configure() -> None:
    """The tests run side by side; with a thread a core in each, small products wait on one another."""
    torch.set_num_threads(1)
    gc.disable()  # what is imported stays: to look through it again and again is a third of the collection
    # Ignored where a script or nohup has started this; and so it would be in all processes that tests start.
    for number, usual in {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_xdist_auto_num_workers() -> int | None:
    """One worker more than cores: now and then each waits, for a disk or for a process of a test."""
    chosen = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return None if chosen else len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch, tmp_path_factory):
    """Each test has a cache folder of its own, which is made once something is kept."""
    monkeypatch.setenv("SWEEPWISE_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{uuid.uuid4().hex}"))


@pytest.fixture(autouse=True)
def torch_as_it_was():
    """Gives back what a run sets in torch."""
    yield
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def in_double():
    """What is made from now on is float64, where a rounding is not mistaken for a difference."""
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch) -> Path:
    """Where the test works: a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def written_soon(monkeypatch):
    """What runs log is soon in their files; also those of processes that are forked from the test's."""
    monkeypatch.setattr(appended, "FLUSH_SECONDS", 0.1)


@pytest.fixture
def no_display(monkeypatch):
    """As on a machine without a screen."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def whole_errors(monkeypatch):
    """Hydra shows a traceback whole, and is left as it was found."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    yield
    GlobalHydra.instance().clear()


@pytest.fixture
def as_command(monkeypatch, capfd):
    """Runs a file with arguments; returns exit code, what it printed and what it complained of."""

    def call(file: str, *arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [file, *arguments])
        code = 0
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
        return (code, *capfd.readouterr())

    return call


def idx_bytes(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


def write_mnist(folder: Path, seed: int) -> tuple[mnist.IdxFile, ...]:
    """Writes the four files, small, and returns what describes them."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.RandomState(seed)
    files = []
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        for kind, shape, most in (("images-idx3", (count, 28, 28), 256), ("labels-idx1", (count,), 10)):
            content = idx_bytes(draw.randint(0, most, shape).astype(np.uint8))
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(content, mtime=0))
            sums = (hashlib.sha256(data).hexdigest() for data in (path.read_bytes(), content))
            files.append(mnist.IdxFile(path.name, *sums, shape))
    return tuple(files)


def write_cifar10(folder: Path) -> str:
    """Writes the archive, small, and returns its sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.RandomState(0)
    with tarfile.open(folder / cifar10.ARCHIVE.name, "w:gz") as archive:
        for name in ("cifar-10-batches-bin/readme.html", *cifar10.BATCHES, cifar10.TEST_BATCH):
            records = draw.randint(0, 256, (BATCH, 3073)).astype(np.uint8)
            records[:, 0] %= 10
            member = tarfile.TarInfo(name)
            member.size = records.nbytes
            archive.addfile(member, io.BytesIO(records.tobytes()))
    return hashlib.sha256((folder / cifar10.ARCHIVE.name).read_bytes()).hexdigest()


@pytest.fixture
def data_files(tmp_path_factory, monkeypatch) -> Path:
    """A folder with mnist/, fashion_mnist/, cifar10/ (as data.root), table.csv, x.npy and y.npy."""
    root = tmp_path_factory.mktemp("data")
    monkeypatch.setattr(mnist, "MNIST", write_mnist(root / "mnist", 0))
    monkeypatch.setattr(mnist, "FASHION_MNIST", write_mnist(root / "fashion_mnist", 1))
    monkeypatch.setattr(mnist, "DEBIAN", root / "no-debian")
    archive = download.Published(cifar10.ARCHIVE.name, write_cifar10(root / "cifar10"))
    monkeypatch.setattr(cifar10, "ARCHIVE", archive)
    monkeypatch.setattr(cifar10, "BATCH", BATCH)
    draw = np.random.RandomState(2)
    x, y = draw.randint(0, 256, (100, 1, 4, 4)).astype(np.uint8), draw.randint(0, 3, 100)
    np.save(root / "x.npy", x)
    np.save(root / "y.npy", y)
    rows = [f"{a:.3f},{b},{'ab'[c % 2]}" for (a, b), c in zip(draw.normal(size=(100, 2)), y, strict=True)]
    (root / "table.csv").write_text("\n".join(["width,height,kind", *rows, ""]))
    return root
