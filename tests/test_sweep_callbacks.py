"""Hydra's callbacks of jobs in a sweep: called by the process that launches it, once a run."""

import sys
from functools import partial
from pathlib import Path

import pytest
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from small import TINY, TRAIN

from hydra_plugins.sweepwise_plugins import _callbacks
from sweepwise.config import allowlist
from sweepwise.errors import Failure
from sweepwise.sweep.cluster import dispatch

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_steps=2", "progress=false", "report=false"]
CALLBACK = '''
import os

from hydra.core.hydra_config import HydraConfig


class Log:
    """Keeps what it is told, in the one process that it is told in."""

    told = []
    homes = set()

    def _note(self, what, config, **more):
        self.homes.add(os.getpid())
        job = HydraConfig.get().job.num if "job" in what else None
        self.told.append({"what": what, "job": job, "config": config, **more})

    def on_multirun_start(self, config, **more):
        self._note("multirun start", config)

    def on_multirun_end(self, config, **more):
        self._note("multirun end", config)

    def on_job_start(self, config, *, task_function, **more):
        self._note("job start", config, task=task_function)

    def on_job_end(self, config, job_return, **more):
        self._note("job end", config, result=job_return)


class Fails(Log):
    def on_job_start(self, **more):
        raise ValueError("no luck")
'''


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The class of a callback in a package of one's own."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "mine_told.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(tmp_path / "package")
    monkeypatch.setattr(allowlist, "_allowed", {"mine_told"})
    sys.modules.pop("mine_told", None)
    import mine_told

    yield mine_told.Log
    del sys.modules["mine_told"]


@pytest.fixture
def command(empty_folder, whole_errors, as_command):
    return partial(as_command, TRAIN)


def test_each_run_starts_once_and_ends_once_with_its_own_config(log, command):
    """Two of the runs are a group, one is a copy of another, and one is refused."""
    arguments = ["init=normal,xavier", "init.std=0.05,-1", "+hydra.callbacks.x._target_=mine_told.Log"]
    code, _, err = command("-m", *SHORT, *arguments, "seed.value=0,1")
    assert code == 2 and "init.std=-1: must be in [0, inf)" in err
    if log.told[-1]["what"] == "multirun end":  # from Hydra 1.4 on, although a run has failed
        log.told.pop()
    told = [(one["what"], one["job"]) for one in log.told]
    assert told.pop(0) == ("multirun start", None)
    numbers = [0, 1, 2, 3, 4, 5]  # 6 and 7 are copies of 4 and 5
    assert sorted(told) == [(f"job {what}", job) for what in ("end", "start") for job in numbers]
    for number in numbers:
        assert told.index(("job start", number)) < told.index(("job end", number))
    for one in log.told[1:]:
        config, number = one["config"], one["job"]
        assert (config.hydra.job.num, config.hydra.job.id) == (number, str(number))
        assert config.seed.value == number % 2
        assert config.init.get("std") == (0.05, -1, None)[number // 2]
        if one["what"] == "job start":
            continue
        result = one["result"]
        assert "hydra" not in result.cfg and list(result.hydra_cfg) == ["hydra"]
        assert result.cfg.init == config.init and result.task_name == "train"
        assert [*result.overrides] == [*config.hydra.overrides.task]
        if number in (2, 3):
            assert result.status.name == "FAILED" and "must be in" in str(result._return_value)
        else:
            assert result.status.name == "COMPLETED" and 0 < result.return_value < 10
            assert (Path(config.hydra.runtime.output_dir) / "record.json").exists()
    assert len(log.homes) == 1


def test_runs_that_have_ended_before_are_told_too(log, command):
    arguments = ["-m", *SHORT, "seed.value=0,1", "+hydra.callbacks.x._target_=mine_told.Log"]
    assert command(*arguments)[0] == 0
    first = [one["result"].return_value for one in log.told if one["what"] == "job end"]
    assert [log.told[place]["what"] for place in (0, -1)] == ["multirun start", "multirun end"]
    log.told.clear()
    assert command(*arguments)[0] == 0
    assert sorted(one["result"].return_value for one in log.told if one["what"] == "job end") == sorted(first)
    assert [one["what"] for one in log.told if one["job"] == 0] == ["job start", "job end"]


@pytest.mark.filterwarnings("ignore:Callback Fails.on_job_start raised")
def test_a_callback_that_fails_takes_no_run_with_it(log, command):
    code, _, _ = command("-m", *SHORT, "seed.value=0,1", "+hydra.callbacks.x._target_=mine_told.Fails")
    assert code == 0 and [one["what"] for one in log.told].count("job end") == 2


def test_jobs_are_composed_for_callbacks_of_jobs_only(log):
    class OfSweeps(Callback):
        def on_multirun_end(self, config, **more):
            pass

    class Callbacks:
        def __init__(self, *callbacks):
            self.callbacks = callbacks

    wants = [
        _callbacks.want_jobs(HydraContext(None, Callbacks(*some))) for some in ((), (OfSweeps(),), (log(),))
    ]
    assert wants == [False, False, True]


@pytest.mark.parametrize("callback", ["Log", ""])
def test_a_cluster_says_that_it_calls_none(callback, log, command, monkeypatch):
    def dispatched(*_, answered):
        raise Failure("as far as is tested")

    monkeypatch.setattr(dispatch, "dispatch", dispatched)
    chosen = ["hydra/launcher=slurm", "hydra.launcher.cluster=local"]
    chosen += [f"+hydra.callbacks.x._target_=mine_told.{callback}"] if callback else []
    _, out, err = command("-m", *SHORT, "seed.value=0,1", *chosen)
    assert err == "error: as far as is tested\n"
    assert ("on_job_start and on_job_end are not called" in " ".join(out.split())) == bool(callback)
