"""What was tried before a sweep is remembered for the next, and nothing but time depends on it."""

import os
import resource
import subprocess
import sys

import pytest
from small import ENVIRONMENT, PLAIN, TINY, TRAIN, composed

from sweepwise.run import load
from sweepwise.sweep.local import beforehand, group_size, groups
from sweepwise.system import cache

SMALL = [*TINY, *PLAIN, "monitor=scalars", "trainer.max_epochs=3"]


@pytest.fixture
def torch_is_here(monkeypatch):
    """As in the process of a sweep, and time to look at all runs."""
    load.trainer()
    monkeypatch.setattr(beforehand, "SECONDS", 1e6)
    monkeypatch.setattr(beforehand, "MOST_SECONDS", 1e6)


@pytest.fixture
def tried(monkeypatch, torch_is_here):
    """How often runs were tried."""
    monkeypatch.setattr(group_size, "_seconds", lambda learner, x, y: 1.0)
    calls = []
    run_in_child = groups.run_in_child
    monkeypatch.setattr(groups, "run_in_child", lambda ask: [calls.append(1), run_in_child(ask)][1])
    return calls


def asked(count, *overrides):
    return [composed(*SMALL, f"seed.value={seed}", *overrides) for seed in range(count)]


def kept():
    return [path for path in cache.folder().rglob("*") if path.is_file()]


def test_what_is_kept_is_recalled_for_the_same_question_alone():
    assert cache.recall("kind", ["a", 1]) is None
    cache.keep("kind", ["a", 1], {"of": [1.5, "x"]})
    assert cache.recall("kind", ["a", 1]) == {"of": [1.5, "x"]}
    assert cache.recall("kind", ["a", 2]) is cache.recall("other", ["a", 1]) is None


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
def test_the_folder_is_that_of_the_users_caches(variable, monkeypatch, tmp_path):
    for name in ("SWEEPWISE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache.folder() == tmp_path / ("sweepwise" if variable == "XDG_CACHE_HOME" else ".cache/sweepwise")


def test_what_is_damaged_at_any_byte_is_no_answer_and_is_replaced():
    cache.keep("kind", "question", [8, ""])
    (path,) = kept()
    whole = path.read_bytes()
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + b"\x07" + whole[place + 1 :]):
            path.write_bytes(damaged)
            assert cache.recall("kind", "question") is None
    path.write_bytes(b" " * (cache.MOST_BYTES + 1))
    assert cache.recall("kind", "question") is None
    cache.keep("kind", "question", [8, ""])
    assert cache.recall("kind", "question") == [8, ""] and kept() == [path]


def test_an_answer_to_another_question_under_the_same_name_is_no_answer():
    cache.keep("kind", "one", 1)
    (one,) = kept()
    content = one.read_bytes()
    one.unlink()
    cache.keep("kind", "other", 2)
    kept()[0].write_bytes(content)
    assert cache.recall("kind", "other") is None


def test_it_stays_small(monkeypatch):
    monkeypatch.setattr(cache, "MOST_FILES", 8)
    for number in range(20):
        cache.keep("kind", number, number)
        path = cache._path("kind", cache._text(number))
        os.utime(path, ns=(number, number))
    assert 4 <= len(kept()) <= 8 and cache.recall("kind", 19) == 19 and cache.recall("kind", 0) is None
    cache.keep("kind", "large", "x" * cache.MOST_BYTES)
    assert cache.recall("kind", "large") is None


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEPWISE_CACHE", str(tmp_path / "file"))
    cache.keep("kind", "question", 1)
    assert cache.recall("kind", "question") is None


@pytest.mark.usefixtures("empty_folder")
def test_a_width_is_tried_once_for_runs_that_differ_in_numbers_only(tried):
    first = groups.groups(asked(5), 1, None)
    again = groups.groups(
        [*asked(4, "optimizer.lr=0.02"), *asked(2, "optimizer.lr=0.02", "init=xavier")], 1, None
    )
    assert len(tried) == 1
    assert [len(unit.requests) for unit in first.units] == [5]
    assert sum(len(unit.requests) for unit in again.units) == 6 and all(unit.fused for unit in again.units)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    "other", [["model.hidden=[7]"], ["data.batch_size=5"], ["optimizer=sgd"], ["trainer.metrics=[accuracy]"]]
)
def test_another_form_is_tried_anew(tried, other):
    groups.groups(asked(4), 1, None)
    groups.groups(asked(4, *other), 1, None)
    assert len(tried) == 2


@pytest.mark.usefixtures("empty_folder")
def test_a_size_that_is_given_holds_whatever_was_remembered(tried):
    sizes = []
    for count, size in [(4, 8), (7, 8), (7, 2), (7, None)]:
        units = groups.groups(asked(count), 1, size).units
        sizes.append(sorted(len(unit.requests) for unit in units))
    assert sizes == [[4], [7], [1, 2, 2, 2], [7]] and len(tried) == 3


@pytest.mark.usefixtures("empty_folder")
def test_a_fault_in_trying_is_not_remembered(tried, monkeypatch):
    monkeypatch.setattr(group_size, "fastest", lambda *_: 1 / 0)
    assert "it cannot be tried" in str(groups.groups(asked(4), 1, None)) and not kept()


@pytest.mark.usefixtures("empty_folder", "torch_is_here")
def test_a_run_that_was_built_before_is_not_built_again_to_know_its_notes(monkeypatch):
    noted = ["scheduler=step", "scheduler.step_size=50"]
    runs = [*asked(2, *noted), *asked(2, "optimizer.lr=0.003", *noted)]
    first = beforehand.look(runs)
    assert kept() and all(first.notes[place] for place in range(4))
    with monkeypatch.context() as patched:
        patched.setattr(beforehand, "_build", lambda request: 1 / 0)
        assert beforehand.look(runs) == first
    seeds = [composed(*SMALL, f"seed.value={seed}", *noted) for seed in (7, 8)]
    found = beforehand.look(seeds)
    for path in kept():
        path.unlink()
    assert found == beforehand.look(seeds)


@pytest.mark.usefixtures("empty_folder", "torch_is_here")
def test_a_run_that_is_refused_is_refused_each_time():
    runs = asked(2, "scheduler=step", "scheduler.step_size=1", "scheduler.warmup=50")
    first = beforehand.look(runs)
    assert len(first.faults) == 2 and not kept() and beforehand.look(runs) == first


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(("soft", "hard", "sizes"), [(40, 4096, [40]), (40, 100, [10, 10, 10, 10])])
def test_a_group_has_as_many_runs_as_files_may_be_open(soft, hard, sizes):
    """Each run holds a few open; what the person's shell allows at first is not what the system allows."""

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    swept = ["-m", *SMALL, "trainer.max_epochs=1", "seed.value=range(0,40)", "hydra.launcher.group_size=64"]
    done = subprocess.run(
        [sys.executable, TRAIN, *swept, "hydra.launcher.max_parallel=1", "progress=true", "report=false"],
        env=ENVIRONMENT,
        preexec_fn=limited,
        capture_output=True,
        text=True,
    )
    groups = f"{len(sizes)} group{'s' if len(sizes) > 1 else ''}"
    assert done.returncode == 0 and f"fused 40 of 40 runs in {groups}" in done.stdout
    assert "smaller groups" not in done.stdout + done.stderr and "40 finished" in done.stdout
