"""What a fit without a config leaves open when it ends: nothing, however it ends."""

import threading
from functools import partial

import pytest
import torch

from sweepwise import Settings, build, checkpoint, fit, split
from sweepwise.checkpoint import checkpoints as checkpoints_module
from sweepwise.data.sklearn_sets import wine
from sweepwise.learner.fused import FusedLearner
from sweepwise.library import folder as folder_module
from sweepwise.model.mlp import mlp
from sweepwise.monitor import Monitor


@pytest.fixture
def written_by_a_thread(monkeypatch):
    """Checkpoints after every step, by a thread from the second one on; all that were made."""
    made = []

    def checkpoints(folder):
        made.append(checkpoint.Checkpoints(folder, steps=1))
        return made[-1]

    monkeypatch.setattr(checkpoints_module, "AFFORDABLE", 0.0)
    monkeypatch.setattr(folder_module, "Checkpoints", checkpoints)
    return made


def small():
    return build(
        data=split(wine(), batch_size=16),
        model=partial(mlp, hidden=[4]),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        settings=Settings(max_epochs=2, device="cpu"),
    )


def failing_at(number, error, monkeypatch):
    step = FusedLearner.step

    def failing(self, x, y, rates, at, watch):
        if at == number:
            raise error
        return step(self, x, y, rates, at, watch)

    monkeypatch.setattr(FusedLearner, "step", failing)


def writers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def slow(monkeypatch, fails):
    """The writer is still at work when the training fails."""
    write = checkpoints_module.atomic.making
    going_on = threading.Event()

    def late(folder, *what):
        if threading.current_thread() is not threading.main_thread():
            going_on.wait(0.3)
            if fails:
                raise PermissionError(13, "no such luck")
        return write(folder, *what)

    monkeypatch.setattr(checkpoints_module.atomic, "making", late)


@pytest.mark.parametrize("error", [ValueError("a step fails"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_the_writer_has_ended_and_its_error_is_a_note(tmp_path, monkeypatch, written_by_a_thread, error):
    before = writers()
    slow(monkeypatch, fails=True)
    failing_at(2, error, monkeypatch)
    with pytest.raises(type(error)) as raised:
        fit(small(), tmp_path)
    assert writers() == before
    (note,) = raised.value.__notes__
    assert note == "also, when the folder was closed: PermissionError: [Errno 13] no such luck"


def test_what_the_writer_has_begun_is_whole(tmp_path, monkeypatch, written_by_a_thread):
    slow(monkeypatch, fails=False)
    failing_at(2, ValueError("a step fails"), monkeypatch)
    with pytest.raises(ValueError, match="a step fails") as raised:
        fit(small(), tmp_path)
    assert not hasattr(raised.value, "__notes__")
    saved = checkpoint.Checkpoints(tmp_path).load()
    assert saved is not None and saved.step == 2


def test_an_error_of_the_end_is_raised_and_all_is_closed(tmp_path, monkeypatch, written_by_a_thread):
    before = writers()
    close = Monitor.close

    def full(self, status):
        close(self, status)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Monitor, "close", full)
    with pytest.raises(OSError, match="No space left"):
        fit(small(), tmp_path)
    assert writers() == before


@pytest.mark.parametrize(
    "error, status", [(ValueError("a step fails"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_the_monitor_is_told_how_it_ended(tmp_path, monkeypatch, error, status):
    ends = []
    close = Monitor.close
    monkeypatch.setattr(Monitor, "close", lambda self, how: ends.append(how) or close(self, how))
    failing_at(3, error, monkeypatch)
    with pytest.raises(type(error)):
        fit(small(), tmp_path)
    assert ends == [status]


def test_a_monitor_that_cannot_begin_is_closed(tmp_path, monkeypatch):
    ends = []
    monkeypatch.setattr(Monitor, "close", lambda self, how: ends.append(how))

    def begin(self, *what):
        raise RuntimeError("no graph")

    monkeypatch.setattr(Monitor, "begin", begin)
    with pytest.raises(RuntimeError, match="no graph"):
        fit(small(), tmp_path)
    assert ends == ["failed"]


def test_a_writer_that_failed_leaves_no_thread(tmp_path, monkeypatch):
    before = writers()
    kept = checkpoint.Checkpoints(tmp_path, steps=1)
    monkeypatch.setattr(checkpoints_module, "AFFORDABLE", 0.0)
    kept.save(1, {}, None, {"step": 1})
    slow(monkeypatch, fails=True)
    kept.save(2, {}, None, {"step": 2})
    with pytest.raises(PermissionError):
        kept.close()
    assert writers() == before
