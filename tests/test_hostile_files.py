"""Files that are damaged, or made to run code or to take all memory: refused by name, with little memory."""

import ast
import gzip
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import commands
import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file
from small import ENVIRONMENT, ROOT, TRAIN
from torch import nn

from sweepwise.data import download, limits
from sweepwise.data.cifar10 import cifar10
from sweepwise.data.digits import _read
from sweepwise.data.memmap import memmap
from sweepwise.data.mnist import mnist
from sweepwise.data.table import table
from sweepwise.init.checkpoint import Checkpoint

UNREADABLE = Path("/proc/self/mem")  # a plain file whose first bytes cannot be read, by root either


class Telling:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


# --- files that would take far more than they have


def overlapping(path: Path) -> None:
    """10 MB that would expand to 100 GB: 1,000 members that share the same 100 MB of zeros."""
    kernel = np.lib.format.header_data_from_array_1_0(np.zeros(0))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pad.bin", os.urandom(10_000_000))
        archive.writestr("x.npy", repr(kernel).encode() + bytes(100_000_000))
        (member,) = archive.filelist[1:]
        for number in range(1000):
            copy = zipfile.ZipInfo(f"x{number}.npy")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "compress_type", "flag_bits"):
                setattr(copy, name, getattr(member, name))
            archive.filelist.append(copy)


def lying(path: Path) -> None:
    """A member of which the directory says that it expands to 100 GB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(1000))
        archive.filelist[0].file_size = 10**11


def announcing(path: Path) -> None:
    """An honest zip of an array whose header says 800 GB."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy_header((10**5, 10**6)) + bytes(1000))
        archive.writestr("y.npy", npy_header((10,)) + bytes(80))


def npy_header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**42)


def wide_csv(path: Path) -> None:
    """6 MB of which one cell has a million characters, and nothing after the last quote is quoted."""
    path.write_text("word,y\n" + "a" * 10**6 + ",0\n" + "a,1\n" * 10**6 + '"b,1\n')


def wide_parquet(path: Path) -> None:
    """A word of a million characters that a million rows refer to: 4 TB as an array of text."""
    places = pyarrow.array(np.zeros(1_000_000, np.int8))
    words = pyarrow.DictionaryArray.from_arrays(places, pyarrow.array(["a" * 10**6]))
    parquet.write_table(pyarrow.table({"word": words.cast(words.type), "y": places}), path)
    assert path.stat().st_size < 10**7


def header_bomb(path: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def long_header(path: Path) -> None:
    text = b'{"__metadata__":{}' + b" " * 20_000_000 + b"}"
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def beyond(path: Path) -> None:
    text = json.dumps(
        {"0.weight": {"dtype": "F64", "shape": [10**6, 10**5], "data_offsets": [0, 8 * 10**11]}}
    )
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode())


def large_foreign(path: Path) -> None:
    """A safetensors file of 20 GB, none of it the model's."""
    size = 20 * 10**9
    text = json.dumps({"other": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + size)


def idx_bomb(path: Path) -> None:
    with gzip.open(path, "wb", 1) as file:
        for _ in range(50):
            file.write(bytes(10_000_000))


MADE = {
    "overlap.npz": (overlapping, "overlap or are cut off"),
    "lying.npz": (lying, "x.npy cannot hold 100,000,000,000 bytes in"),
    "announcing.npz": (
        announcing,
        "x.npy: its header says float64 (100000, 1000000), 800000000000 bytes: found 1000",
    ),
    "large.npz": (sparse, "cannot be read as arrays"),
    "sparse.csv": (sparse, "would take 4,398,046,511,104 bytes, more than half of the memory"),
    "wide.csv": (wide_csv, "line 1000003: unexpected end of data"),
    "wide.parquet": (wide_parquet, "target 'y': must hold two values or more, and holds 0 only"),
    "sparse.parquet": (sparse, "cannot be read"),
    "announcing.npy": (
        lambda path: path.write_bytes(npy_header((10**5, 10**6)) + bytes(1000)),
        "its header says float64 (100000, 1000000), 800000000000 bytes: found 1000",
    ),
    "negative.npy": (lambda path: path.write_bytes(npy_header((-1, -8)) + bytes(64)), "its header says"),
    "long.npy": (
        lambda path: path.write_bytes(b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b"{}"),
        "cannot be read as .npy",
    ),
    "bomb.gz": (idx_bomb, "must hold 796 bytes: found more than 796"),
    "length.safetensors": (header_bomb, "it claims a header of 4,611,686,018,427,387,904 bytes"),
    "header.safetensors": (long_header, "it claims a header of 20,000,019 bytes"),
    "beyond.safetensors": (beyond, "must be a complete safetensors file"),
    "sparse.safetensors": (sparse, "must be a complete safetensors file"),
    "foreign.safetensors": (large_foreign, "Cannot allocate memory"),
    "pipe.safetensors": (os.mkfifo, "must be a file, not a device or pipe"),
}
READ = """
import json, resource, sys
from pathlib import Path
import pyarrow.parquet, torch
from sweepwise.data.idx import read_idx
from sweepwise.data.memmap import memmap
from sweepwise.data.table import table
from sweepwise.init.checkpoint import Checkpoint
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status["VmData"].split()[0]) * 1024 + 400_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
readers = {
    ".gz": lambda path: read_idx(Path(path), (28, 28), ""),
    ".npy": lambda path: memmap(x=path, y=path),
    ".safetensors": lambda path: Checkpoint(path=path).complete_(torch.nn.Linear(2, 2), None, None),
}
told = {}
for path in map(Path, sys.argv[1:]):
    try:
        readers.get(path.suffix, lambda path: table(path=path))(str(path))
    except ValueError as error:
        told[path.name] = str(error)
    except BaseException as error:
        told[path.name] = repr(error)
print(json.dumps(told))
"""


@pytest.mark.slow
def test_what_would_take_all_memory_is_refused_with_little(tmp_path):
    """By a process that may take 400 MB beside what it has loaded."""
    for name, (make, _) in MADE.items():
        make(tmp_path / name)
    command = [sys.executable, "-c", READ, *(str(tmp_path / name) for name in MADE)]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    for path in tmp_path.iterdir():
        path.unlink()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == MADE.keys()
    for name, (_, message) in MADE.items():
        assert message in told[name] and name in told[name] and "\n" not in told[name]


def test_a_large_file_of_other_weights_is_refused_without_reading_it(tmp_path):
    large_foreign(tmp_path / "a.safetensors")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="other is not in the model"):
            Checkpoint(path=str(tmp_path / "a.safetensors")).complete_(nn.Linear(2, 2), None, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10**6 < (tmp_path / "a.safetensors").stat().st_size


def test_what_fits_in_half_of_the_memory_is_read_and_no_more(tmp_path, monkeypatch):
    x, y = np.zeros((1000, 100)), np.arange(1000) % 2
    np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    rows = {f"c{place}": x[:, place] for place in range(100)}
    parquet.write_table(pyarrow.table({**rows, "y": y}), tmp_path / "a.parquet")
    text = ",".join([*rows, "y"]) + "\n" + "".join("0," * 100 + f"{label}\n" for label in y)
    (tmp_path / "a.csv").write_text(text)
    for size, fits in ((30_000_000, True), (1_000_000, False)):
        monkeypatch.setattr(limits, "memory", lambda size=size: size)
        for name in ("a.npz", "a.parquet", "a.csv"):
            if fits:
                assert table(path=str(tmp_path / name)).x.shape == (1000, 100)
                continue
            with pytest.raises(
                ValueError, match=r"more than half of the memory \(500,000\); use data=memmap"
            ):
                table(path=str(tmp_path / name))
        assert memmap(x=str(tmp_path / "x.npy"), y=str(tmp_path / "y.npy")).x.shape == (1000, 100)


def test_categories_that_would_take_all_memory_are_refused(tmp_path, monkeypatch):
    lines = "".join(f"w{n % 100},{n % 2}\n" for n in range(2000))
    (tmp_path / "a.csv").write_text("word,y\n" + lines)
    assert table(path=str(tmp_path / "a.csv")).x.shape == (2000, 100)
    monkeypatch.setattr(limits, "memory", lambda: 2_000_000)
    with pytest.raises(ValueError, match=r"100 features of 2000 rows would take 1,600,000 bytes"):
        table(path=str(tmp_path / "a.csv"))


def test_the_memory_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CONTROL_GROUP", tmp_path / "memory.max")
    machine = limits.memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert limits.memory() == machine
    (tmp_path / "memory.max").write_text("1000\n")
    assert limits.memory() == 1000


# --- files that would run code


@pytest.mark.parametrize(
    "name", ["a.npz", "a.npy", "raw.npy", "raw.npz", "a.safetensors", "a.parquet", "a.csv"]
)
def test_nothing_is_unpickled(name, tmp_path):
    path, told = tmp_path / name, tmp_path / "told"
    objects = np.array([Telling(told)] * 4, dtype=object)
    if name == "a.npz":
        np.savez(path, x=np.zeros((4, 2)), y=objects)
    elif name == "a.npy":
        np.save(path, objects)
    else:
        path.write_bytes(pickle.dumps(Telling(told)))
    with pytest.raises(ValueError) as refused:
        if name.endswith(".npy"):
            memmap(x=str(path), y=str(path))
        elif name.endswith(".safetensors"):
            Checkpoint(path=str(path)).complete_(nn.Linear(2, 2), torch.ones(1, 2), torch.Generator())
        else:
            table(path=str(path))
    assert str(path) in str(refused.value) and not told.exists()
    if name in ("a.npz", "a.npy"):
        assert "holds Python objects, which could run code" in str(refused.value)


SAFE = {
    "np.load": "allow_pickle=False",
    "np.memmap": "",
    "read_array": "allow_pickle=False",
    "torch.load": "weights_only=True",
}


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("scripts/*.py"), ROOT / "train.py"]),
    ids=lambda path: path.stem,
)
def test_no_code_of_ours_unpickles_or_evaluates(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name for alias in node.names}
            modules = names if isinstance(node, ast.Import) else {node.module}
            if modules & {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}:
                assert names <= {"UnpicklingError", "HIGHEST_PROTOCOL", "Pickler"}, ast.unparse(node)
        if isinstance(node, ast.Call):
            told, name = ast.unparse(node), ast.unparse(node.func)
            assert name not in (
                "eval",
                "exec",
                "yaml.load",
                "yaml.unsafe_load",
                "yaml.full_load",
                "__import__",
            )
            for function, option in SAFE.items():
                if name == function or name.endswith(f".{function}"):
                    assert option in told, told


# --- published sets that were damaged


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def emptied(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("change", [truncated, flipped, emptied])
@pytest.mark.parametrize(
    ("read", "name"),
    [(mnist, "mnist/t10k-images-idx3-ubyte.gz"), (cifar10, "cifar10/cifar-10-binary.tar.gz")],
)
def test_a_damaged_published_file_is_named_with_both_sums_and_a_way_out(read, name, change, data_files):
    path = data_files / name
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError) as refused:
        read(root=str(data_files))
    told = str(refused.value)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert told.startswith(f"data: {path}: ") and f"{expected}: found {found}" in told
    assert told.endswith("remove it, and it will be downloaded again") and "\n" not in told


@pytest.mark.parametrize(
    ("read", "name"),
    [(mnist, "mnist/train-labels-idx1-ubyte.gz"), (cifar10, "cifar10/cifar-10-binary.tar.gz")],
)
def test_what_is_no_file_or_cannot_be_read_is_named(read, name, data_files):
    path = data_files / name
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError) as refused:
        read(root=str(data_files))
    assert str(refused.value) == f"data: {path}: must be a file, not a folder or device; remove it"
    path.rmdir()
    if UNREADABLE.is_file():
        path.symlink_to(UNREADABLE)
        with pytest.raises(ValueError) as refused:
            read(root=str(data_files))
        assert str(refused.value).startswith(f"data: {path}: cannot be read: ")


@pytest.mark.parametrize(
    "change", [truncated, flipped, emptied, lambda content: gzip.compress(b"1,2\n3,4\n", mtime=0)]
)
def test_the_digits_of_scikit_learn_are_checked_too(change, tmp_path):
    from sklearn import datasets

    whole = (Path(datasets.__file__).parent / "data" / "digits.csv.gz").read_bytes()
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(whole)
    assert _read(path, 0)[0].shape == (1797, 64)
    path.write_bytes(change(whole))
    with pytest.raises(ValueError, match="install scikit-learn again") as refused:
        _read(path, 1)
    assert str(path) in str(refused.value)


def test_a_mirror_that_never_ends_fills_no_disk(tmp_path, monkeypatch):
    class Endless:
        def __init__(self, **_: object) -> None:
            pass

        def __call__(self, url, output, pup) -> None:
            for _ in range(10**6):
                output.write(bytes(1000))

    monkeypatch.setattr("pooch.HTTPDownloader", Endless)
    monkeypatch.setattr(download, "LARGEST", 10_000)
    with pytest.raises(ValueError, match=r"could not be downloaded \(http://x/a: more than 10,000 bytes\)"):
        download.download([download.Published("a", "0")], ["http://x/"], tmp_path / "set")
    assert not list(tmp_path.iterdir())


# --- the user's own files


def own(path: Path) -> Path:
    x, y = np.random.RandomState(0).normal(size=(200, 5)), np.arange(200) % 3
    if path.suffix == ".npz":
        np.savez(path, x=x, y=y)
    elif path.suffix == ".npy":
        np.save(path, x)
        np.save(path.with_name("y.npy"), y)
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.table({**{f"c{n}": x[:, n] for n in range(5)}, "y": y}), path)
    elif path.suffix == ".safetensors":
        save_file(nn.Linear(300, 2).state_dict(), path)
    else:
        path.write_text("a,b\n" + "\n".join(f"{row[0]},{row[1]}" for row in x) + "\n")
    return path


def read(path: Path) -> None:
    if path.suffix == ".npy":
        memmap(x=str(path), y=str(path.with_name("y.npy")))
    elif path.suffix == ".safetensors":
        Checkpoint(path=str(path)).complete_(nn.Linear(300, 2), torch.ones(1, 300), torch.Generator())
    else:
        table(path=str(path))


OWN = ["a.npz", "x.npy", "a.parquet", "a.safetensors", "a.csv"]


@pytest.mark.parametrize(
    "change", [truncated, emptied, lambda content: content[:-1]], ids=["half", "empty", "a byte"]
)
@pytest.mark.parametrize("name", OWN[:-1])
def test_a_cut_off_file_of_ones_own_is_named(name, change, tmp_path):
    path = own(tmp_path / name)
    read(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=r"cannot be read|must be a complete safetensors file") as refused:
        read(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("a,b\n1,2\n3,", "values are missing in column b (1), the target"),
        ('a,b\n1,2\n3,"', "line 3"),
        ("", "is empty"),
    ],
)
def test_a_cut_off_csv_says_where(content, where, tmp_path):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError) as refused:
        table(path=str(tmp_path / "a.csv"))
    assert f"data.path={tmp_path}/a.csv" in str(refused.value) and where in str(refused.value)


def test_a_flipped_bit_in_an_npz_is_found_in_its_array(tmp_path):
    path = own(tmp_path / "a.npz")
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(ValueError) as refused:
        table(path=str(path))
    assert "x.npy: Bad CRC-32 for file 'x.npy'" in str(refused.value)


@pytest.mark.parametrize("name", OWN)
def test_a_folder_or_what_cannot_be_read_is_named(name, tmp_path):
    path = own(tmp_path / name)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="folder") as refused:
        read(path)
    assert str(path) in str(refused.value)
    path.rmdir()
    if UNREADABLE.is_file():
        path.symlink_to(UNREADABLE)
        with pytest.raises(
            ValueError, match=r"cannot be read|must be a complete safetensors file"
        ) as refused:
            read(path)
        assert str(path) in str(refused.value)


# --- as a command


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("overlap.npz", ["data=table", "data.path=PATH"]),
        ("announcing.npy", ["data=memmap", "data.x=PATH", "data.y=PATH"]),
        ("length.safetensors", ["data=wine", "init=checkpoint", "init.path=PATH"]),
        ("bomb.gz", ["data=mnist", "data.root=HOME"]),
    ],
)
@pytest.mark.slow
def test_a_command_ends_with_code_2_one_line_and_no_folder(name, overrides, tmp_path):
    path = tmp_path / "files" / name
    path.parent.mkdir()
    MADE[name][0](path)
    if name == "bomb.gz":
        (tmp_path / "files" / "mnist").mkdir()
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            (tmp_path / "files" / "mnist" / f"{part}-ubyte.gz").symlink_to(path)
    place = tmp_path / "place"
    place.mkdir()
    given = [word.replace("PATH", str(path)).replace("HOME", str(path.parent)) for word in overrides]
    done = commands.run([TRAIN, *given], cwd=place)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and str(path.parent) in line
    assert not list(place.iterdir())
