"""MNIST, Fashion-MNIST and CIFAR-10: read as published, downloaded once, refused when damaged."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import commands
import numpy as np
import pytest
from small import ROOT

from sweepwise.data import cifar10 as cifar10_module
from sweepwise.data import download as download_module
from sweepwise.data import mnist as mnist_module
from sweepwise.data import split
from sweepwise.data.cifar10 import cifar10
from sweepwise.data.download import Published, download, folder_of
from sweepwise.data.idx import read_idx
from sweepwise.data.mnist import MNIST, MNIST_MIRRORS, fashion_mnist, mnist
from sweepwise.errors import UsageError
from sweepwise.parts import build_part

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
with_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")
CONTENT = bytes(range(256)) * 40


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


FILE = Published("file.bin", sha256(CONTENT))


@pytest.fixture
def serve():
    """Starts web servers: {name: (status, body, length that is claimed)} -> URL."""
    servers = []
    release = threading.Event()

    def start(answers: dict[str, tuple[int, bytes, int]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                status, body, length = answers.get(self.path.strip("/"), (404, b"", 0))
                if status == 0:
                    release.wait(10)
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        asked = start.asked
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    start.asked = []
    yield start
    release.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def whole(content: bytes) -> tuple[int, bytes, int]:
    return 200, content, len(content)


def refused_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


# --- download


def test_a_file_is_brought_from_the_first_mirror_that_has_it(serve, tmp_path):
    good = serve({"file.bin": whole(CONTENT)})
    folder = tmp_path / "new" / "set"
    download([FILE], [serve({}), good], folder)
    assert (folder / "file.bin").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["file.bin"]
    assert serve.asked == ["/file.bin", "/file.bin"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, b"", 0), "404 Client Error: Not Found"),
        ((500, b"", 0), "500 Server Error"),
        (whole(CONTENT[:-1] + b"?"), "does not match the known hash"),
        (whole(b""), "does not match the known hash"),
        ((200, CONTENT[:100], len(CONTENT)), "100 bytes read, 10140 more expected"),
        ((0, b"", 0), "timed out"),
    ],
    ids=["missing", "broken", "another", "empty", "truncated", "silent"],
)
def test_what_cannot_be_had_is_explained_and_leaves_nothing(answer, reason, serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT", 0.2)
    url = serve({"file.bin": answer})
    folder = tmp_path / "a" / "b" / "set"
    with pytest.raises(ValueError) as caught:
        download([FILE, Published("other.bin", "0")], [url], folder)
    text = str(caught.value)
    assert text.startswith(f"data=set: file.bin could not be downloaded ({url}file.bin: ") and reason in text
    assert f"put file.bin, other.bin into {folder}" in text and "\n" not in text
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_every_url_and_its_reason_is_named(tmp_path):
    mirrors = [refused_port(), refused_port()]
    with pytest.raises(ValueError) as caught:
        download([FILE], mirrors, tmp_path / "set")
    assert all(f"{url}file.bin: " in str(caught.value) for url in mirrors)
    assert str(caught.value).count("Connection refused") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_leaves_what_was_there(serve, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("kept")
    url = serve({"file.bin": whole(CONTENT)})
    with pytest.raises(ValueError, match=r"second\.bin could not be downloaded"):
        download([FILE, Published("second.bin", "0")], [url], tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["file.bin", "mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(serve, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Permission denied"):
        download([FILE], [serve({"file.bin": whole(CONTENT)})], tmp_path / "set")


def test_the_folder_is_the_one_asked_for_then_the_variable_then_the_cache(monkeypatch):
    monkeypatch.setenv("SWEEPWISE_DATA", "/there")
    assert folder_of("mnist", "/here") == Path("/here/mnist")
    assert folder_of("mnist", None) == Path("/there/mnist")
    monkeypatch.delenv("SWEEPWISE_DATA")
    assert folder_of("mnist", None) == Path.home() / ".cache/sweepwise/mnist"
    assert folder_of("mnist", "~/x") == Path.home() / "x/mnist"


def test_pooch_is_not_needed_for_files_that_are_there(data_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)  # importing it fails
    assert len(mnist(root=str(data_files)).x) == 90 and len(cifar10(root=str(data_files)).x) == 75


# --- MNIST


def test_mnist_is_downloaded_once_and_read(data_files, serve, tmp_path, monkeypatch):
    files = {path.name: path.read_bytes() for path in (data_files / "mnist").iterdir()}
    url = serve({name: whole(content) for name, content in files.items()})
    monkeypatch.setattr(mnist_module, "MNIST_MIRRORS", (url,))
    first = mnist(root=str(tmp_path))
    assert len(serve.asked) == 4
    again = mnist(root=str(tmp_path))
    assert len(serve.asked) == 4
    raw = gzip.decompress(files["train-images-idx3-ubyte.gz"])
    assert first.x.dtype == np.uint8 and first.x.shape == (90, 1, 28, 28) and first.x_test.shape[0] == 30
    assert first.x.tobytes() == raw[16:] and np.array_equal(first.x, again.x)
    assert first.y.tolist() == list(gzip.decompress(files["train-labels-idx1-ubyte.gz"])[8:])
    assert (first.name, first.classes, first.y.dtype) == ("mnist", 10, np.int64)


def test_only_the_file_that_is_missing_is_downloaded(data_files, serve, monkeypatch):
    path = data_files / "mnist" / "t10k-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    monkeypatch.setattr(mnist_module, "MNIST_MIRRORS", (serve({path.name: whole(content)}),))
    path.unlink()
    mnist(root=str(data_files))
    assert serve.asked == [f"/{path.name}"] and path.read_bytes() == content


def test_files_may_lie_there_decompressed_or_compressed_by_others(data_files):
    expected = mnist(root=str(data_files))
    for number, path in enumerate(sorted((data_files / "mnist").iterdir())):
        content = gzip.decompress(path.read_bytes())
        path.unlink()
        if number % 2:
            path.with_suffix("").write_bytes(content)
        else:
            path.write_bytes(gzip.compress(content, 1, mtime=7))
    found = mnist(root=str(data_files))
    assert np.array_equal(found.x, expected.x) and np.array_equal(found.y_test, expected.y_test)


def test_debians_files_come_first_unless_a_root_is_named(data_files, monkeypatch):
    shutil.copytree(data_files / "fashion_mnist", data_files / "debian")
    monkeypatch.setattr(mnist_module, "DEBIAN", data_files / "debian")
    monkeypatch.setenv("SWEEPWISE_DATA", "/nonexistent")
    assert fashion_mnist().x.shape == (90, 1, 28, 28)
    damaged = data_files / "fashion_mnist" / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ValueError, match=re.escape(str(damaged))):
        fashion_mnist(root=str(data_files))


HEADER = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])
GOOD = HEADER + b"abcdef"


def test_idx_is_read_plain_and_compressed(tmp_path):
    (tmp_path / "a").write_bytes(GOOD)
    (tmp_path / "a.gz").write_bytes(gzip.compress(GOOD, mtime=0))
    for name in ("a", "a.gz"):
        array = read_idx(tmp_path / name, (2, 3), sha256(GOOD))
        assert array.dtype == np.uint8 and array.tolist() == [[97, 98, 99], [100, 101, 102]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", GOOD[:-1], "must hold 18 bytes: found 17"),
        ("a", GOOD + b"g", "must hold 18 bytes: found more than 18"),
        ("a", b"", "must hold 18 bytes: found 0"),
        ("a", b"\0\0\x0d" + GOOD[3:], "2 x 3 unsigned bytes does (000008020000000200000003): found 00000d02"),
        ("a", GOOD[:7] + b"\3" + GOOD[8:], "2 x 3 unsigned bytes does"),
        ("a", GOOD[:-1] + b"F", f"must have the sha256 {sha256(GOOD)}: found {sha256(GOOD[:-1] + b'F')}"),
        ("a.gz", gzip.compress(GOOD[:-1] + b"F", mtime=0), f"the sha256 {sha256(GOOD)}, decompressed: found"),
        ("a.gz", gzip.compress(GOOD, mtime=0)[:-9], "cannot be read"),
        ("a.gz", gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), "cannot be read"),
        ("a.gz", GOOD, "cannot be read: Not a gzipped file"),
        ("a.gz", gzip.compress(GOOD + bytes(10**6), mtime=0), "found more than 18"),
    ],
)
def test_a_damaged_idx_file_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_idx(tmp_path / name, (2, 3), sha256(GOOD))
    text = str(caught.value)
    assert text.startswith(f"data: {tmp_path / name}: ") and message in text and "remove it" in text


@with_debian
def test_fashion_mnist_is_the_published_one():
    arrays = fashion_mnist()
    assert arrays.x.shape == (60_000, 1, 28, 28) and arrays.x_test.shape == (10_000, 1, 28, 28)
    assert (
        np.bincount(arrays.y).tolist() == [6000] * 10 and np.bincount(arrays.y_test).tolist() == [1000] * 10
    )
    assert arrays.x.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert arrays.x.std() / 255 == pytest.approx(0.3530, abs=5e-5)
    data = split(arrays, validation=1 / 7, examples=3500)
    assert [len(part.y) for part in (data.train, data.validation, data.test)] == [2500, 500, 500]


@pytest.mark.slow
@with_debian
def test_splitting_60000_images_needs_little_more_memory_than_they_take():
    code = (
        "from sweepwise.data import split; from sweepwise.data.mnist import fashion_mnist\n"
        "status = lambda: dict(line.split(':') for line in open('/proc/self/status'))\n"
        "peak = lambda: int(status()['VmHWM'].split()[0]) * 1024\n"
        "before = peak(); data = split(fashion_mnist(), validation=1 / 7); grown = peak() - before\n"
        "size = sum(p.x.nbytes + p.y.nbytes for p in (data.train, data.validation, data.test))\n"
        "print(grown / size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 2


@pytest.mark.slow
@with_debian
def test_an_mlp_learns_fashion_mnist_in_two_epochs(tmp_path):
    command = ["train.py", "data=fashion_mnist", "model=mlp", "trainer.max_epochs=2"]
    options = ["progress=true", f"output_dir={tmp_path}", "trainer.device=cpu"]
    commands.run([*command, *options], cwd=ROOT, check=True)
    (path,) = tmp_path.glob("main/*/record.json")
    assert json.loads(path.read_text())["best"]["metrics"]["val/accuracy"] > 0.85


@pytest.mark.slow
def test_without_files_and_network_a_run_ends_with_code_2_and_no_folder(tmp_path):
    proxy = refused_port()  # whatever the machine has, no request leaves it
    environment = os.environ | {"SWEEPWISE_DATA": str(tmp_path / "data"), "NO_PROXY": "", "no_proxy": ""}
    environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
    command = ["train.py", "data=mnist", f"output_dir={tmp_path}/out"]
    done = commands.run(command, environment, cwd=ROOT)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: data=mnist: train-images-idx3-ubyte.gz could not be downloaded (https://")
    assert all(name in error for name in (*MNIST_MIRRORS, str(tmp_path / "data" / "mnist")))
    assert all(file.name in error for file in MNIST)
    assert list(tmp_path.iterdir()) == []


def test_without_files_and_network_the_fault_is_the_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_module, "MNIST_MIRRORS", (refused_port(),))
    with pytest.raises(UsageError, match=r"^data=mnist: train-images-idx3-ubyte\.gz could not be downloaded"):
        build_part("data", lambda: split(mnist(root=str(tmp_path))))


# --- CIFAR-10


def repack(path: Path, change) -> str:
    """Writes the archive anew, its members changed by a function; returns its sha256."""
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member)) for member in archive]
        members = [(member, file.read() if file else b"") for member, file in members]
    with tarfile.open(path, "w:gz") as archive:
        for member, content in change(members):
            if member.isreg():
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sha256(path.read_bytes())


def test_cifar10_is_read_from_its_archive(data_files):
    arrays = cifar10(root=str(data_files))
    draw = np.random.RandomState(0)
    batches = [draw.randint(0, 256, (15, 3073)).astype(np.uint8) for _ in range(7)][1:]
    records = np.concatenate(batches)
    assert arrays.x.dtype == np.uint8 and arrays.x.shape == (75, 3, 32, 32)
    assert np.concatenate([arrays.x, arrays.x_test]).tobytes() == records[:, 1:].tobytes()
    assert np.concatenate([arrays.y, arrays.y_test]).tolist() == (records[:, 0] % 10).tolist()
    assert (arrays.name, arrays.classes) == ("cifar10", 10)
    assert sorted(path.name for path in (data_files / "cifar10").iterdir()) == ["cifar-10-binary.tar.gz"]


def test_another_archive_is_refused(data_files):
    path = data_files / "cifar10" / "cifar-10-binary.tar.gz"
    expected = cifar10_module.ARCHIVE.sha256
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError) as caught:
        cifar10(root=str(data_files))
    found = sha256(path.read_bytes())
    assert str(caught.value) == (
        f"data: {path}: must have the sha256 {expected}: found {found}, in a "
        f"file of {path.stat().st_size:,} bytes; remove it, and it will be downloaded again"
    )


def link(members):
    member, content = members[2]
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return [*members[:2], (member, content), *members[3:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members[:-1], r"lacks cifar-10-batches-bin/test_batch\.bin"),
        (
            lambda members: [(m, c[:-1]) for m, c in members],
            r"data_batch_1\.bin must hold 46095 bytes: found 46094",
        ),
        (lambda members: [(m, c + b"1") for m, c in members], "must hold 46095 bytes: found 46096"),
        (link, "cannot be read|lacks"),
    ],
    ids=["member missing", "short", "long", "link"],
)
def test_members_are_checked_and_never_unpacked(change, message, data_files, monkeypatch):
    path = data_files / "cifar10" / "cifar-10-binary.tar.gz"
    digest = repack(path, change)
    monkeypatch.setattr(cifar10_module, "ARCHIVE", Published(path.name, digest))
    with pytest.raises(ValueError, match=message):
        cifar10(root=str(data_files))
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_truncated_archive_is_refused_whatever_its_sum(data_files, monkeypatch):
    path = data_files / "cifar10" / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:5000])
    monkeypatch.setattr(cifar10_module, "ARCHIVE", Published(path.name, sha256(path.read_bytes())))
    with pytest.raises(ValueError, match=r"cannot be read|lacks"):
        cifar10(root=str(data_files))
