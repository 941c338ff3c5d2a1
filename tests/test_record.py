"""What a run is called, where it lives, and what is written of it: real files, locks and processes."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sweepwise import record
from sweepwise.record import Busy, Record, Request

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
GROUPS = sorted(
    path.name for path in CONF.iterdir() if list(path.glob("*.yaml")) and path.name != "experiment"
)
# Where results go, what is shown of them, who fetches the batches and where published files are kept.
IGNORED = ("name", "output_dir", "fresh", "progress", "monitor", "trainer.workers", "data.root")


def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return config


def leaves(node: dict, *path: str):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, *path, key)
        else:
            yield (*path, key), value


def changed(config: dict, path: tuple[str, ...], value) -> dict:
    copy = json.loads(json.dumps(config))
    node = copy
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copy


def other(value):
    """A value of about the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return [*value, 1] if isinstance(value, list) else f"{value}x"


# --- identity


def test_identity_changes_with_every_key_but_those_that_cannot_change_a_result():
    options = {g: sorted(path.stem for path in (CONF / g).glob("*.yaml")) for g in GROUPS}
    everything = [
        [f"{group}={names[turn % len(names)]}" for group, names in options.items() if group != "regularizer"]
        for turn in range(max(map(len, options.values())))
    ]
    everything.append([f"regularizer=[{','.join(options['regularizer'])}]"])
    sides: dict[str, set[bool]] = {}
    for overrides in everything:
        config = composed(*overrides)
        before = record.identity(config)
        for path, value in leaves(config):
            moved = record.identity(changed(config, path, other(value))) != before
            sides.setdefault(".".join(path), set()).add(moved)
    assert all(len(found) == 1 for found in sides.values())
    assert {f"{group}._target_" for group in GROUPS if group != "regularizer"} <= sides.keys()
    ignored = {key for key, found in sides.items() if found == {False}}
    assert ignored == {key for key in sides if key in IGNORED or key.split(".")[0] in IGNORED}
    assert {"monitor.scalars_every", "trainer.workers", "name", "fresh"} <= ignored
    assert {
        "seed.value",
        "trainer.threads",
        "trainer.validate_every",
        "optimizer.lr",
    } <= sides.keys() - ignored
    assert {"regularizer.l1.coefficient", "data.split_seed", "model._target_"} <= sides.keys() - ignored


def test_identity_changes_with_what_is_added_or_removed():
    config = composed()
    ids = {record.identity(config), record.identity({**config, "new": 1})}
    ids |= {record.identity({key: value for key, value in config.items() if key != "init"})}
    ids |= {record.identity(composed("regularizer=l1")), record.identity(composed("regularizer=[l1,l2]"))}
    assert len(ids) == 5


def test_identity_is_eight_hex_digits_whatever_the_order_or_the_process():
    config = composed()
    turned = {key: config[key] for key in reversed(config)}
    found = record.identity(config)
    assert re.fullmatch(r"[0-9a-f]{8}", found) and record.identity(turned) == found
    code = "import json, sys; from sweepwise.record import identity; print(identity(json.load(sys.stdin)))"
    for seed in ("1", "2"):
        env = {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(config),
            capture_output=True,
            text=True,
            env=env,
            check=True,
        )
        assert done.stdout.strip() == found


# --- names and folders

ID = "1a2b3c4d"


@pytest.mark.parametrize(
    "overrides, name",
    [
        ([], "seed=0-1a2b3c4d"),
        (["init=xavier", "optimizer.lr=0.01"], "init=xavier,optimizer.lr=0.01,seed=0-1a2b3c4d"),
        (["seed.value=7", "init=xavier"], "init=xavier,seed=0-1a2b3c4d"),
        (["name=a", "output_dir=/b", "fresh=true", "progress=false", "monitor=none"], "seed=0-1a2b3c4d"),
        (["monitor.scalars_every=1", "trainer.workers=2"], "seed=0-1a2b3c4d"),
        (["+new.key=1"], "+new.key=1,seed=0-1a2b3c4d"),
        (["regularizer=[l1,dropout]"], "regularizer=_l1_dropout,seed=0-1a2b3c4d"),
        (["model.x=../../etc/passwd"], "model.x=.._.._etc_passwd,seed=0-1a2b3c4d"),
        (["model.x='größe 学习'"], "model.x=_gr_e,seed=0-1a2b3c4d"),
    ],
)
def test_a_folder_says_what_was_overridden(overrides, name):
    assert record.folder_name(overrides, 0, ID) == name


def check_name(name: str, seed: int) -> None:
    assert len(name.encode()) <= 120 and name.isascii()
    assert name.endswith(f"seed={seed}-{ID}")
    assert re.fullmatch(r"[A-Za-z0-9_.=+,-]+", name)
    assert Path(name).name == name and name not in (".", "..")


@given(st.lists(st.text(max_size=80), max_size=8), st.integers(0, 2**32 - 1))
def test_a_folder_name_is_one_ascii_level_of_at_most_120_bytes(overrides, seed):
    check_name(record.folder_name(overrides, seed, ID), seed)


@pytest.mark.parametrize("length", range(60, 130))
def test_long_names_are_cut_but_keep_seed_and_id(length):
    check_name(record.folder_name(["k=" + "v" * (length - 2), "other=1"], 2**32 - 1, ID), 2**32 - 1)
    check_name(record.folder_name(["a=1"] * length, 0, ID), 0)


def test_a_run_is_found_by_its_id_however_it_was_asked_for(tmp_path):
    home = tmp_path / "main"
    new = record.find_folder(home, ["init=xavier"], 3, ID)
    assert new == home / f"init=xavier,seed=3-{ID}"
    assert not home.exists()  # asking makes nothing
    new.mkdir(parents=True)
    (home / "seed=3-ffffffff").mkdir()
    assert record.find_folder(home, [], 3, ID) == new
    assert record.find_folder(home, ["optimizer.lr=0.001"], 3, ID) == new
    assert record.find_folder(home, [], 3, "00000000") == home / "seed=3-00000000"


def test_a_request_knows_its_id_and_folder(tmp_path):
    config = composed("seed.value=5", "name=trial", f"output_dir={tmp_path}", "init=xavier")
    request = Request(config, ["seed.value=5", "name=trial", "init=xavier"])
    assert request.id == record.identity(config)
    assert request.folder == tmp_path / "trial" / f"init=xavier,seed=5-{request.id}"


# --- claiming a folder

HOLD = """
import sys
from pathlib import Path
from sweepwise.record import claim
claim(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder: Path):
    """Another process that has claimed the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "deep" / "run"
    with holder(folder) as first:
        (folder / "metrics.jsonl").write_text("of the first")
        with pytest.raises(Busy, match=rf"is being trained by process {first.pid} on \S+ since \d{{4}}-"):
            record.claim(folder)
        assert (folder / "metrics.jsonl").read_text() == "of the first"  # and nothing was touched
        first.send_signal(signal.SIGKILL)
        first.wait()
        lock = record.claim(folder)
        assert [path.name for path in folder.iterdir()] == [".lock"]
        assert (folder / ".lock").read_text().startswith(f"process {os.getpid()} ")
        os.close(lock)


def test_a_claim_ends_with_its_descriptor_and_clears_what_was_left(tmp_path):
    os.close(record.claim(tmp_path))
    (tmp_path / "checkpoints" / "best").mkdir(parents=True)
    (tmp_path / "checkpoints" / "best" / "weights.safetensors").write_bytes(b"old")
    (tmp_path / "record.json").write_text("{}")
    lock = record.claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with pytest.raises(Busy):
        record.claim(tmp_path)
    os.close(lock)
    os.close(record.claim(tmp_path))


def test_a_link_in_a_claimed_folder_goes_and_what_it_points_to_stays(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    folder.mkdir()
    (folder / "link").symlink_to(elsewhere)
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    os.close(record.claim(folder))
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert (elsewhere / "kept").read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        record.claim(tmp_path / "file" / "run")


# --- files


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_scrap(tmp_path, monkeypatch, broken):
    path = tmp_path / "record.json"
    record.write_aside(path, b"old")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OSError, match="No space left"):
            record.write_aside(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]
    record.write_aside(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_write_is_synced_before_it_replaces_and_its_folder_after(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync") or fsync(number))
    monkeypatch.setattr(Path, "replace", lambda self, to: calls.append("replace") or replace(self, to))
    record.write_aside(tmp_path / "x", b"1")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_kill_in_the_middle_of_writing_leaves_one_of_the_contents(tmp_path):
    code = (
        "import sys; from pathlib import Path; from sweepwise.record import write_aside\n"
        "path = Path(sys.argv[1])\n"
        "while True:\n"
        "    for letter in b'ab':\n"
        "        write_aside(path, bytes([letter]) * 1_000_000)\n"
        "        print('written', flush=True)\n"
    )
    path = tmp_path / "content"
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT / "src")},
        )
        for _ in range(3):
            process.stdout.readline()
        process.kill()
        process.communicate()
        content = path.read_bytes()
        assert content in (b"a" * 1_000_000, b"b" * 1_000_000)


def test_a_record_says_running_at_once_and_then_how_it_ended(tmp_path):
    assert record.read(tmp_path) == {}
    log = Record(tmp_path, id=ID, notes=("one",))
    found = record.read(tmp_path)
    assert (found["status"], found["reason"], found["id"], found["notes"]) == ("running", "", ID, ["one"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", found["started"])
    assert "ended" not in found and "seconds" not in found
    log.end("diverged", "loss nan", metrics={"val/loss": math.nan, "val/accuracy": 0.5})
    text = (tmp_path / "record.json").read_text()
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (found["status"], found["reason"], found["id"]) == ("diverged", "loss nan", ID)
    assert found["metrics"] == {"val/loss": None, "val/accuracy": 0.5}
    assert found["seconds"] >= 0 and found["ended"] >= found["started"]
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_record_left_by_an_error_says_failed(tmp_path):
    with pytest.raises(RuntimeError), Record(tmp_path, id=ID):
        raise RuntimeError("out of luck")
    found = record.read(tmp_path)
    assert (found["status"], found["reason"]) == ("failed", "RuntimeError: out of luck")
    with pytest.raises(RuntimeError), Record(tmp_path, id=ID) as log:
        log.end("diverged", "loss inf")
        raise RuntimeError("later")
    assert record.read(tmp_path)["status"] == "diverged"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(JSON)
def test_jsonable_is_strict_json_and_changes_only_what_is_not_finite(value):
    def same(left, right):
        if isinstance(left, dict):
            return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
        if isinstance(left, (list, tuple)):
            return len(left) == len(right) and all(map(same, left, right))
        if isinstance(left, float) and not math.isfinite(left):
            return right is None
        return left == right and type(left) is type(right)

    found = record.jsonable(value)
    assert same(value, found)
    assert same(found, json.loads(json.dumps(found, allow_nan=False)))


def test_the_environment_names_what_a_result_depends_on():
    import numpy
    import torch

    found = record.environment()
    assert (found["torch"], found["numpy"]) == (torch.__version__, numpy.__version__)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["threads"] == torch.get_num_threads()
    assert found["pid"] == os.getpid() and found["command"] == sys.argv
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert found["git_commit"] == (done.stdout.strip() if done.returncode == 0 else None)
    json.dumps(found, allow_nan=False)
