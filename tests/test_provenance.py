"""What a run was made by, and what of it differs: real files, packages, checkouts and processes."""

import hashlib
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from small import ROOT

from sweepwise.provenance import changes, environment, git, hashes, origin, sources
from sweepwise.provenance.hashes import Hashes
from sweepwise.provenance.sources import inputs

SRC = ROOT / "src"


@pytest.fixture(autouse=True)
def forget():
    """A process hashes a file and asks git once; each test is to be like a process of its own."""

    def clear() -> None:
        for cached in (sources._code, sources._hashes, origin._origin, git._checkout, git._diff):
            cached.cache_clear()

    clear()
    yield
    clear()


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A package of a user's own."""
    package = tmp_path / "project" / "mine_of_test"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('nothing is imported')\n")
    (package / "deep" / "net.py").write_text("x = 1\n")
    for skipped in (".hidden", "__pycache__"):
        (package / skipped).mkdir()
        (package / skipped / "no.py").write_text("")
    (package / "data.csv").write_text("1\n")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(sys, "argv", ["train"])
    return package


def in_process(code: str, *arguments: str, **options) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        **options,
    )
    return done.stdout


# --- code


def test_the_code_is_what_is_reached_of_ours_and_every_file_of_the_packages_of_targets(own):
    found = sources.code(
        ["torch.nn.init.xavier_normal_", "sweepwise.data.digits", "mine_of_test.deep.net.Net"]
    )
    ours = set(sources.code(["sweepwise.data.digits"]))  # see test_reachable.py
    assert found.keys() == ours | {"mine_of_test/__init__.py", "mine_of_test/deep/net.py"}
    for name, told in found.items():
        path = SRC / name if name.startswith("sweepwise") else own.parent / name
        assert told == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert list(found) == sorted(found) and "mine_of_test" not in sys.modules
    assert sources.code([]).keys() <= ours


def test_a_module_alone_and_a_package_that_is_not_there(tmp_path, own):
    (own.parent / "alone_of_test.py").write_text("")
    found = sources.code(["alone_of_test.f", "nowhere_of_test.f", "", "sys.x"])
    assert {name for name in found if not name.startswith("sweepwise")} == {"alone_of_test.py"}


def test_what_is_reached_is_remembered_while_no_file_has_changed(tmp_path, monkeypatch):
    """A file that keeps its size and its time of change has another time of its status."""
    home = tmp_path / "sweepwise"
    home.mkdir()
    (home / "root.py").write_text("import sweepwise.leaf\n")
    (home / "leaf.py").write_text("x = 1\n")
    roots = frozenset({"sweepwise.root"})

    def reached() -> dict:
        sources.reachable.cache_clear()
        sources._hash.cache_clear()
        return dict(sources._reached(home, roots))

    first = reached()
    with monkeypatch.context() as at_once:
        at_once.setattr(sources, "reachable", lambda *_: pytest.fail("is worked out again"))
        with pytest.raises(pytest.fail.Exception):
            sources._reached(home, roots)  # as the files are that new
    monkeypatch.setattr(sources, "SETTLED_NS", -(10**12))
    assert reached() == first
    with monkeypatch.context() as later:
        later.setattr(sources, "reachable", lambda *_: pytest.fail("is worked out again"))
        assert sources._reached(home, roots) == first
    before = (home / "leaf.py").stat()
    (home / "leaf.py").write_text("x = 2\n")
    os.utime(home / "leaf.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert reached() == first | {
        "sweepwise/leaf.py": hashlib.sha256(b"x = 2\n").hexdigest()[:16],
    }


def test_the_script_that_was_started_is_no_part_of_a_run(own, monkeypatch):
    """Else a run that train.py has made would be another's when a script asks for it."""
    before = sources.code([])
    script = own.parent / "train_it.py"
    script.write_text("pass\n")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert sources.code([]) == before


def test_a_file_that_is_edited_during_a_process_is_told_as_it_was_loaded(own):
    before = sources.code(["mine_of_test.x"])
    (own / "deep" / "net.py").write_text("x = 2\n")
    assert sources.code(["mine_of_test.x"]) == before
    for cached in (sources._code, sources._hashes):
        cached.cache_clear()
    now = sources.code(["mine_of_test.x"])
    assert {name for name in now if now[name] != before[name]} == {"mine_of_test/deep/net.py"}


def test_code_and_versions_are_known_at_once_and_without_torch():
    told = in_process(
        "import json, sys, time\nfrom sweepwise.provenance import environment, sources\n"
        "start = time.process_time()\ncode = sources.code(['torch.nn.Linear', 'sweepwise.x'])\n"
        "first = time.process_time()\nversions = environment.versions()\n"
        "second = time.process_time()\n"
        "loaded = sorted({'torch', 'numpy'} & set(sys.modules))\n"
        "print(json.dumps([first - start, second - first, versions, loaded]))"
    )
    for_code, for_versions, versions, loaded = json.loads(told)
    assert loaded == [] and versions == environment.versions()
    assert for_code < 0.1 and for_versions < 0.1  # 3 ms each on an idle machine


# --- the user's files


def test_files_that_a_config_names_are_told_with_their_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.csv").write_bytes(b"1,2\n")
    (tmp_path / "w.safetensors").write_bytes(b"")
    (tmp_path / "sweepwise.x").touch()
    config = {
        "name": "set.csv",
        "output_dir": "set.csv",
        "data": {"_target_": "sweepwise.x", "path": "set.csv", "root": "set.csv", "drop": ["set.csv"]},
        "init": {
            "path": f"{tmp_path}/w.safetensors",
            "other": "a\0b",
            "much": "x" * 5000,
            "n": 1,
            "none": None,
        },
    }
    found = inputs(config)
    digest = hashlib.sha256(b"1,2\n").hexdigest()[:16]
    assert found["data.path=set.csv"] == f"4 bytes, {digest}"
    assert found.keys() == {"data.path=set.csv", f"init.path={tmp_path}/w.safetensors"}


def test_a_file_is_read_once_as_long_as_its_times_tell_that_it_is_unchanged(tmp_path, monkeypatch):
    read: list[Path] = []
    content = sources._read
    monkeypatch.setattr(sources, "_read", lambda path: read.append(path) or content(path))
    path = tmp_path / "set.csv"
    path.write_bytes(b"1,2\n")
    for digit in b"345":  # each within a moment after the last one, and of the same size
        path.write_bytes(b"1,%c\n" % digit)
        digest = hashlib.sha256(b"1,%c\n" % digit).hexdigest()[:16]
        assert inputs({"x": str(path)}) == {f"x={path}": f"4 bytes, {digest}"}
    later = time.time_ns() + sources.SETTLED_NS + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    read.clear()
    assert inputs({"x": str(path)}) == inputs({"x": str(path)}) and read == [path]
    path.write_bytes(b"1,6\n")
    os.utime(path, ns=(1, 1))
    assert inputs({"x": str(path)}) != {f"x={path}": f"4 bytes, {digest}"} and len(read) == 2


@pytest.mark.parametrize("place", [0, 10_000, 99_999, None])
def test_a_large_file_is_known_by_a_sample_that_holds_its_ends(place, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(sources, "SAMPLE_BYTES", 100)
    path, content = tmp_path / "x.npy", bytearray(os.urandom(100_000))
    path.write_bytes(content)
    before = inputs({"x": str(path)})
    if place is None:
        path.write_bytes(content + b"1")
    else:
        content[place] ^= place != 10_000  # between two pieces
        path.write_bytes(content)
    (told,) = before.values()
    assert told.startswith("100000 bytes, sample ")
    assert (inputs({"x": str(path)}) == before) == (place == 10_000)


# --- differences

ENVIRONMENT = {
    "python": "3.11.7",
    "torch": "2.12.0",
    "numpy": "2.4.6",
    "sweepwise": "0.1.0",
    "hydra-core": "1.3.8",
    "host": "a",
    "processor": "x86_64",
    "cpu": "C",
    "cpu_capability": "AVX2",
    "threads": 1,
    "gpus": [],
    "cuda": None,
    "cudnn": None,
    "variables": {"MKL_CBWR": "AVX2"},
    "pid": 1,
    "platform": "p",
}
BEFORE = {
    "code": {"sweepwise/a.py": "1", "train.py": "2"},
    "inputs": {"data.path=x": "1"},
    "environment": ENVIRONMENT,
}


def now(**changed) -> dict:
    return {**BEFORE, "environment": {**ENVIRONMENT, **changed}}


def test_nothing_differs_from_itself_nor_in_what_cannot_matter():
    assert changes.differences(BEFORE, BEFORE) == changes.Differences()
    assert changes.differences(BEFORE, now(pid=2, platform="q")) == changes.Differences()
    assert changes.differences(json.loads(json.dumps(BEFORE)), now(gpus=[])) == changes.Differences()


def test_code_and_files_that_differ_are_named():
    other = {**BEFORE, "code": {"sweepwise/a.py": "9", "mine/b.py": "2"}, "inputs": {"data.path=x": "2"}}
    assert changes.differences(BEFORE, other) == changes.Differences(
        code=("mine/b.py is new", "sweepwise/a.py changed", "train.py is gone"),
        inputs=("data.path=x changed",),
    )


FILES = Hashes({"sweepwise/b.py": "2", "sweepwise/a.py": "1"})


def run_folder(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    (folder / "code.json").write_bytes(Hashes(files).content)
    return folder


def test_a_record_has_the_hash_of_the_table_that_stands_beside_it(tmp_path):
    content = b'{\n"sweepwise/a.py": "1",\n"sweepwise/b.py": "2"\n}\n'
    assert FILES.content == content and FILES.digest == hashlib.sha256(content).hexdigest()[:16]
    folder = run_folder(tmp_path / "run", FILES)
    assert hashes.table(FILES.digest, folder) == FILES == json.loads((folder / "code.json").read_bytes())
    assert hashes.digest(FILES.digest) == hashes.digest(dict(FILES)) == FILES.digest


def test_files_of_code_are_named_by_the_tables_of_both_runs(tmp_path):
    other = {"sweepwise/a.py": "9", "sweepwise/c.py": "2"}
    one, two = run_folder(tmp_path / "one", FILES), run_folder(tmp_path / "two", other)
    was, is_now = {"code": FILES.digest}, {"code": Hashes(other).digest}
    named = ("sweepwise/a.py changed", "sweepwise/b.py is gone", "sweepwise/c.py is new")
    assert changes.differences(was, is_now, one, two).code == named
    assert changes.differences(was, {"code": other}, one).code == named  # of this process
    assert (
        changes.differences({"code": dict(FILES)}, is_now, None, two).code == named
    )  # of an earlier version


def test_the_same_code_needs_no_table_and_a_record_of_an_earlier_version_has_the_same(tmp_path):
    for was in (FILES.digest, dict(FILES)):
        assert changes.differences({"code": was}, {"code": FILES}, tmp_path).code == ()
        assert changes.differences({"code": was}, {"code": FILES.digest}, tmp_path, tmp_path).code == ()


@pytest.mark.parametrize(
    "content", [None, b"", b"[]", b'{"a": 1}', b'{"sweepwise/a.py": "7"}\n', b"[" * 10**5]
)
def test_other_code_is_told_also_where_its_table_is_missing_damaged_or_that_of_another_run(content, tmp_path):
    if content is not None:
        (tmp_path / "code.json").write_bytes(content)
    found = changes.differences({"code": FILES.digest}, {"code": {"sweepwise/a.py": "9"}}, tmp_path)
    assert found.code == ("the code, in files that are not known",)


@pytest.mark.parametrize(
    "changed, versions, machine",
    [
        ({"torch": "2.13.0"}, ("torch 2.12.0 -> 2.13.0",), ()),
        ({"hydra-core": None}, ("hydra-core 1.3.8 -> none",), ()),
        ({"python": "3.12.1", "numpy": "3"}, ("python 3.11.7 -> 3.12.1", "numpy 2.4.6 -> 3"), ()),
        ({"host": "b"}, (), ()),  # a job may go on where it likes, on the same hardware
        ({"threads": 2}, (), ("threads 1 -> 2",)),
        ({"cpu_capability": "AVX512"}, (), ("CPU capability AVX2 -> AVX512",)),
        ({"gpus": ["H100, 80 GiB"]}, (), ("GPUs none -> H100, 80 GiB",)),
        ({"cuda": "13.0", "cudnn": 91000}, (), ("CUDA none -> 13.0", "cuDNN none -> 91000")),
        ({"variables": {"OMP_NUM_THREADS": "2"}}, (), ("MKL_CBWR AVX2 -> none", "OMP_NUM_THREADS none -> 2")),
    ],
)
def test_versions_and_hardware_that_differ_are_named(changed, versions, machine):
    found = changes.differences(BEFORE, now(**changed))
    assert found == changes.Differences(versions=versions, machine=machine)


def test_what_is_not_asked_about_now_is_not_compared():
    versions = {"environment": {"torch": "2.13.0"}}
    assert changes.differences(BEFORE, versions) == changes.Differences(versions=("torch 2.12.0 -> 2.13.0",))


def test_what_a_record_does_not_say_is_no_difference():
    old = {"environment": {key: ENVIRONMENT[key] for key in ("python", "torch", "host", "threads")}}
    found = changes.differences(old, now(threads=3))
    assert found.machine == ("threads 1 -> 3",) and found.code == found.versions == found.inputs == ()


# --- environment


def test_the_environment_names_what_a_result_depends_on(monkeypatch):
    import numpy
    import torch

    monkeypatch.setenv("OMP_SOMETHING", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("SECRET_TOKEN", "s")
    found = environment.current_environment()
    assert (found["torch"], found["numpy"]) == (version("torch"), numpy.__version__)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["threads"] == torch.get_num_threads()
    assert found["pid"] == os.getpid() and found["command"] == sys.argv
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["cpu"] and found["cores"] >= 1 and found["memory_gib"] > 0
    assert found["working_directory"] == os.getcwd()
    assert found["variables"]["OMP_SOMETHING"] == "3" and found["places"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert "SECRET_TOKEN" not in json.dumps(found, allow_nan=False)
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert found["git_commit"] == (done.stdout.strip() if done.returncode == 0 else None)
    assert changes.differences({"environment": found}, {"environment": found}) == changes.Differences()


# --- git


@pytest.fixture
def checkout(own, monkeypatch) -> Path:
    """The user's project as a checkout of its own, with nothing to commit."""
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "x")
    top = own.parent
    (top / ".gitignore").write_text("ignored*\n__pycache__\n.hidden\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(top), *arguments], check=True)
    monkeypatch.setattr(sources, "code_folders", lambda targets: {"mine_of_test": own})
    monkeypatch.setattr(origin, "code_folders", lambda targets: {"mine_of_test": own})
    return top


def status(top: Path) -> str:
    done = subprocess.run(["git", "-C", str(top), "status", "--porcelain"], capture_output=True, text=True)
    return done.stdout


def test_a_clean_checkout_has_no_diff(checkout):
    (checkout / "notes.txt").write_text("not code")
    (checkout / "ignored.py").write_text("1")
    assert origin.diff() == ""
    found = environment.current_environment()
    assert found["git_clean"] is True and len(found["git_commit"]) == 40


@pytest.mark.parametrize("script", ["train.py", "mine_of_test/deep/start.py", "elsewhere"])
def test_a_diff_with_edited_staged_removed_and_new_files_makes_the_code_again(
    checkout, own, tmp_path, monkeypatch, script
):
    monkeypatch.setattr(sys, "argv", [str(checkout / script)])
    if script.endswith(".py"):
        (checkout / script).write_text("started\n")
    (own / "deep" / "net.py").write_text("x = 'größe'\n")
    (own / "__init__.py").unlink()
    (own / "staged.py").write_text("1\n")
    subprocess.run(["git", "-C", str(checkout), "add", "mine_of_test/staged.py"], check=True)
    (own / "neu und größer.py").write_text("new\n")
    (own / "empty.py").touch()
    before, index = status(checkout), (checkout / ".git" / "index").read_bytes()
    told = origin.diff()
    assert status(checkout) == before and (checkout / ".git" / "index").read_bytes() == index
    assert "+x = 'größe'" in told and "+new" in told
    assert environment.current_environment()["git_clean"] is False
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "-q", str(checkout), str(again)], check=True)
    subprocess.run(["git", "-C", str(again), "apply"], input=told, text=True, check=True)
    for path in [*checkout.glob("*.py"), *own.rglob("*.py")]:
        if not {".hidden", "__pycache__"} & set(path.parts):
            assert (again / path.relative_to(checkout)).read_bytes() == path.read_bytes()
    assert not (again / "mine_of_test" / "__init__.py").exists()


def test_an_edit_within_the_second_of_the_commit_is_in_the_diff_beside_a_new_file(checkout, own):
    # Such an edit, of the same size, is known only by the time of the index.
    edited, index = own / "deep" / "net.py", checkout / ".git" / "index"
    subprocess.run(["git", "-C", str(checkout), "config", "core.trustctime", "false"], check=True)
    moment = (1_700_000_000, 1_700_000_000)
    os.utime(edited, moment)
    subprocess.run(["git", "-C", str(checkout), "add", "-A"], check=True)
    os.utime(index, moment)
    edited.write_text(edited.read_text().replace("2", "3").replace("1", "3"))
    os.utime(edited, moment)
    (own / "new.py").write_text("x = 5\n")
    told = origin.diff()
    assert "+x = 5" in told and "3" in edited.read_text() and "deep/net.py" in told


def test_a_long_diff_is_cut_and_says_so(checkout, own, monkeypatch):
    monkeypatch.setattr(git, "DIFF_BYTES", 2000)
    (own / "long.py").write_text("x = 1\n" * 100_000)
    told = origin.diff()
    assert len(told) < 2100 and told.endswith("\n# cut after 2000 bytes\n") and "+x = 1" in told


@pytest.mark.parametrize("missing", ["git", "checkout", "commit", "time"])
def test_without_git_there_is_nothing_to_say(missing, checkout, own, monkeypatch, tmp_path):
    (own / "deep" / "net.py").write_text("x = 3\n")
    if missing == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif missing == "time":
        slow = tmp_path / "bin" / "git"
        slow.parent.mkdir()
        slow.write_text("#!/bin/sh\nexec sleep 60\n")
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(git, "SECONDS", 0.1)
    else:
        (checkout / ".git").rename(checkout / "not.git")
        if missing == "commit":
            subprocess.run(["git", "-C", str(checkout), "init", "-q"], check=True)
    start = time.monotonic()
    assert origin.diff() == ""
    found = environment.current_environment()
    assert (found["git_commit"], found["git_clean"]) == (None, False)
    assert time.monotonic() - start < 20


def test_no_program_that_a_checkout_names_is_run(checkout, own):
    for key in ("core.fsmonitor", "diff.external", "diff.x.textconv", "core.pager"):
        command = f"touch {checkout}/ran; cat"
        subprocess.run(["git", "-C", str(checkout), "config", key, command], check=True)
    (checkout / ".git" / "info" / "attributes").write_text("*.py diff=x\n")
    (own / "deep" / "net.py").write_text("x = 3\n")
    (own / "new.py").write_text("x = 3\n")
    assert origin.diff().count("+x = 3") == 2
    assert not (checkout / "ran").exists()


def test_a_script_beside_the_package_brings_its_own_checkout(checkout, own, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "go.py").write_text("1\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(other), *arguments], check=True)
    (other / "go.py").write_text("2\n")
    assert origin.diff() == ""
    monkeypatch.setattr(sys, "argv", [str(other / "go.py")])
    assert "+2" in origin.diff()
