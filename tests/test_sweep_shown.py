"""What a sweep says while it runs: a line a run or for several, how far runs have come, how each stands."""

import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sweeps
from small import composed

from sweepwise.store.folders import SWEEP
from sweepwise.store.status import ENDED
from sweepwise.sweep import announced, shown, summary
from sweepwise.sweep.cluster import dispatch, listing, overview
from sweepwise.sweep.cluster.jobs import GONE, State
from sweepwise.sweep.cluster.overview import Row
from sweepwise.sweep.outcome import Outcome
from sweepwise.sweep.reached import Reached, reached, together
from sweepwise.system import console

BEGAN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
ATTEMPT = {
    "started": "2026-01-01T00:00:00+0000",
    "ended": None,
    "seconds": 0.0,
    "host": "n1",
    "pid": 17,
    "from_step": 0,
    "status": "running",
}


def logged(folder: Path, epochs: int, each: int = 10, seconds: float = 1.0, value: float = 0.5) -> Path:
    """A run's metrics.jsonl after some epochs, each of so many seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for epoch in range(epochs):
        step = (epoch + 1) * each - 1
        lines.append({"step": step - 1, "epoch": epoch, "train/batch_loss": 1.0})
        lines.append({"step": step, "epoch": epoch, "train/loss": 1.0, "val/loss": value})
    path = folder / "metrics.jsonl"
    path.write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": '
    )  # the last is half written
    os.utime(path, (BEGAN + seconds * epochs,) * 2)
    return folder


# --- how far a run has come


def test_how_far_a_run_has_come_is_in_its_folder(tmp_path):
    folder = logged(tmp_path / "run", epochs=5, seconds=2.0)
    found = reached(folder, {"max_epochs": 20, "max_steps": None}, ATTEMPT, BEGAN + 11)
    assert found == Reached(5, 20, 0.25, "val/loss", 0.5, 11.0, 15 * 2.0 - 1)
    assert together([found]) == "5 of 20 epochs, val/loss 0.5, 29 s left"


def test_the_end_may_come_by_steps_and_an_attempt_may_have_begun_later(tmp_path):
    folder = logged(tmp_path / "run", epochs=5)
    found = reached(folder, {"max_epochs": 20, "max_steps": 75}, ATTEMPT, BEGAN + 5)
    assert (found.epochs, found.share, found.left) == (8, pytest.approx(50 / 75), pytest.approx(2.5))
    later = {**ATTEMPT, "from_step": 40}  # the last ten steps took all five seconds
    assert reached(folder, {"max_epochs": 6}, later, BEGAN + 5).left == pytest.approx(5.0)


def test_what_is_not_known_is_not_said(tmp_path):
    assert reached(tmp_path, {"max_epochs": 3}, ATTEMPT, BEGAN) is None and together([None]) == "starting"
    found = reached(logged(tmp_path / "run", epochs=1), {"max_epochs": 3}, {}, BEGAN + 1)
    assert not math.isfinite(found.left) and together([found]) == "1 of 3 epochs, val/loss 0.5"
    bad = logged(tmp_path / "bad", epochs=1)
    (bad / "metrics.jsonl").write_text('{"step": 3, "epoch": 0}\n')  # no epoch has ended
    assert together([reached(bad, {"max_epochs": 3}, ATTEMPT, BEGAN + 1)]).startswith("0 of 3 epochs")


def test_runs_of_one_process_are_said_together(tmp_path):
    runs = [logged(tmp_path / str(k), epochs=4, value=0.1 * (k + 1)) for k in range(3)]
    found = [reached(run, {"max_epochs": 10}, ATTEMPT, BEGAN + 4) for run in runs]
    assert together([*found, None]) == "4 of 10 epochs, val/loss 0.1 to 0.3, 6 s left"


# --- a sweep on this machine


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def outcomes(home, runs, status="finished", others=0, **given):
    """The outcomes of runs that lie in a folder; with a log, as trained just now."""
    found = []
    for seed in range(runs):
        words = [f"seed.value={seed}", *(f"{key}={value}" for key, value in given.items())]
        value = 0.5 + seed / 1000 if status != "diverged" else None
        sweeps.run(home, *words, value=value, status=status)
        request = composed(*words, f"output_dir={home.parent}", f"name={home.name}")
        found.append(Outcome(request, ENDED[status], home / "log", (), others))
    return found


def told(found, capsys, ticks=1, clock=None):
    """The lines of a sweep whose runs end in so many equal parts."""
    reporter = shown.Shown([one.request for one in found], clock or Clock())
    with reporter:
        for part in range(ticks):
            for one in found[part::ticks]:
                reporter.ended(one)
            reporter.tick()
    return capsys.readouterr().out.splitlines()


def test_each_run_of_a_small_sweep_has_a_line(tmp_path, capsys):
    lines = told(outcomes(tmp_path / "outputs" / "main", shown.EACH, others=3), capsys, ticks=2)
    assert len(lines) == shown.EACH
    assert " ".join(lines[0].split()) == (
        "1/20 finished seed.value=0 val/loss 0.5 at epoch 3 1.5 s with 3 others"
    )


def test_the_runs_of_a_large_sweep_share_lines(tmp_path, capsys):
    home = tmp_path / "outputs" / "main"
    found = outcomes(home, 100)
    clock = Clock()
    clock.now = 0.0
    lines = told(found, capsys, ticks=50, clock=clock)
    assert len(lines) == 10
    assert lines[0] == " 10/100  10 finished, 0 s; best val/loss 0.5 at epoch 3"
    assert lines[-1].startswith("100/100  10 finished") and max(map(len, lines)) <= 80
    before = [Outcome(one.request, 0) for one in found]
    assert told(before, capsys) == ["100/100  100 finished, before; best val/loss 0.5 at epoch 3"]


def test_runs_that_diverge_in_a_large_sweep_are_named_up_to_a_few(tmp_path, capsys):
    home = tmp_path / "outputs" / "main"
    found = [*outcomes(home, 20), *outcomes(home, 20, "diverged", init="lecun")]
    lines = told(found, capsys)
    assert len(lines) == shown.SINGLED_OUT + 1
    assert all("  diverged " in line and "init=lecun" in line for line in lines[:-1])
    assert lines[-1].startswith("40/40  20 finished, 20 diverged, ")


def test_where_there_is_no_terminal_a_long_silence_is_broken(tmp_path, capsys, monkeypatch):
    home = tmp_path / "outputs" / "main"
    requests = [one.request for one in outcomes(home, 3)]
    for request in requests:
        folder = logged(request.folder, epochs=5)
        known = json.loads((folder / "record.json").read_text())
        (folder / "record.json").write_text(json.dumps({**known, "status": "running", "attempts": [ATTEMPT]}))
    monkeypatch.setattr(shown.time, "time", lambda: BEGAN + 5)
    clock = Clock()
    with shown.Shown(requests, clock) as reporter:
        reporter.say("plan", "fused 2 of 3 runs in 1 group")
        reporter.started(requests[:2])
        reporter.started(requests[2:])
        for now in range(0, 400, 2):
            clock.now = now
            reporter.tick()
    text = capsys.readouterr().out
    _, *later = [line for line in text.splitlines() if not line.startswith(" ")]
    assert [line.split("  ")[0] for line in later][:5] == ["30 s", "60 s", "90 s", "2 min", "2 min"]
    assert len(later) == 10  # and not 13: later less often
    said = " ".join(text.split())
    assert "30 s 0 of 3 runs ended; 2 runs: 5 of 100 epochs, val/loss 0.5, 95 s left; seed.value=2: 5" in said


@pytest.mark.parametrize(("told_before", "of"), [(None, "all"), (set(), "this step")])
def test_the_time_that_is_left_is_that_of_the_sweep_and_in_a_search_of_the_step(
    tmp_path, capsys, monkeypatch, told_before, of
):
    """Two runs of 100 epochs, an epoch every two seconds each: after 60 s 140 s are left."""
    home = tmp_path / "outputs" / "main"
    requests = [one.request for one in outcomes(home, 2)]
    clock = Clock()
    with shown.Shown(requests, clock, told_before) as reporter:
        reporter.started(requests)
        for now in (0, 30, 60):
            clock.now = now
            for request in requests:
                folder = logged(request.folder, epochs=now // 2)
                known = json.loads((folder / "record.json").read_text())
                text = json.dumps({**known, "status": "running", "attempts": [ATTEMPT]})
                (folder / "record.json").write_text(text)
            reporter.tick()
    said = " ".join(capsys.readouterr().out.split())
    assert f"60 s 0 of 2 runs ended, about 2 min left in {of}; 2 runs: 30 of 100" in said


def test_on_a_terminal_the_time_that_is_left_says_of_what(monkeypatch):
    drawn = []
    live = shown._Live(3, "this step")
    monkeypatch.setattr(live._live, "update", lambda group, refresh: drawn.append(group))
    live.show(1, 30.0, [])
    live.close()
    (bar, *_) = drawn[0].renderables
    assert "1/3 ended" in str(next(iter(bar.columns[1].cells))) and "about 30 s left in this step" in str(
        next(iter(bar.columns[1].cells))
    )


def test_a_narrow_terminal_does_without_keys_and_epochs_and_then_takes_several_lines(
    tmp_path, capsys, monkeypatch
):
    home, lr = tmp_path / "outputs" / "main", {"optimizer.lr": 0.01}
    found = [one for init in ("lecun", "xavier") for one in outcomes(home, 1, others=3, init=init)]
    found += outcomes(home, 1, others=3, init="xavier", **lr)
    monkeypatch.setattr(summary, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    lines = told(found, capsys)
    tail = "  val/loss 0.5  1.5 s with 3 others"
    names = ["init=lecun", "init=xavier", "xavier,0.01"]
    assert [line[19:] for line in lines] == [f"{name}{tail}" for name in names]
    monkeypatch.setenv("COLUMNS", "40")
    lines = told(found, capsys)
    assert max(map(len, lines)) <= 40 and "init=xavier,optimizer.lr=0.01" in "".join(lines)


@pytest.mark.parametrize(
    ("name", "shown_as"),
    [
        ("init=xavier,model.hidden=[8,8],seed.value=0", "xavier,[8,8],0"),
        ("+regularizer.l1.strength=0.1,~seed=3", "0.1,3"),
        ("lr=0.1__init=lecun_uniform__seed=0-1a2b3c4d", "0.1__lecun_uniform__0-1a2b3c4d"),
    ],
)
def test_keys_are_left_out_of_a_name(name, shown_as):
    assert summary.KEY.sub("", name) == shown_as


# --- scripts/status.py


def waiting_row(number, **fields):
    state = fields.pop("state", GONE)
    return Row(f"{number:08x}", f"seed={number}-{number:08x}", "queued", "", state, {}, ())


def test_a_sweep_announces_its_runs_while_it_lives(tmp_path):
    home = tmp_path / "outputs" / "main"
    requests = [composed(f"seed.value={n}", f"output_dir={home.parent}", "name=main") for n in range(3)]
    with announced.announced(requests):
        assert announced.waiting(home) == {request.id: request.folder.name for request in requests}
        rows = listing.with_announced(home, [])
        assert [row.status for row in rows] == ["queued"] * 3 and all(row.live for row in rows)
        (left,) = (home / SWEEP / announced.HERE).iterdir()
        content = left.read_bytes()
    assert announced.waiting(home) == {} and not (home / SWEEP / announced.HERE).exists()
    left.parent.mkdir()
    left.write_bytes(content)  # of a sweep that was killed
    assert announced.waiting(home) == {}


def test_what_has_ended_or_runs_is_not_announced_again(tmp_path):
    home = tmp_path / "outputs" / "main"
    found = outcomes(home, 2)
    with announced.announced([one.request for one in found]):
        assert [row.status for row in listing.with_announced(home, overview.look(home))] == ["finished"] * 2


def test_a_large_sweep_is_listed_by_how_its_runs_stand(tmp_path):
    home = tmp_path / "outputs" / "main"
    ended = outcomes(home, 30)
    rows = overview.look(home)
    pending = State("PENDING", "", "Priority")
    rows += [Row(f"{n:08x}", f"x-{n:08x}", "queued", f"17_{n}", pending, {}, ()) for n in range(400)]
    running = []
    for n in range(64):
        folder = logged(home / f"y-{n:08x}", epochs=4)
        (folder / "config.yaml").write_text("trainer: {max_epochs: 10}\n")
        known, state = {"attempts": [{**ATTEMPT, "pid": n // 4}]}, State("RUNNING", "n1")
        running.append(Row(f"{n:08x}", folder.name, "running", f"18_{n // 4}", state, known, ()))
    lines = list(listing.lines(home, [*rows, *running]))
    assert lines[0] == f"finished      30 runs; best {ended[0].request.folder.name}  val/loss 0.5 at epoch 3"
    assert lines[1].startswith("running       4 runs  18_0  n1  4 of 10 epochs, val/loss 0.5")
    assert lines[listing.PROCESSES + 1] == "running       16 runs in 4 more processes"
    assert lines[-1] == "queued        400 runs  job 17  Priority" and len(lines) == listing.PROCESSES + 3
    assert len(list(listing.lines(home, [*rows, *running], each=True))) == len(rows) + len(running)


def test_a_run_that_trains_says_how_far_it_has_come(tmp_path):
    home = tmp_path / "outputs" / "main"
    folder = logged(home / "y-1", epochs=4)
    (folder / "config.yaml").write_text("trainer: {max_epochs: 10}\n")
    row = Row("1", "y-1", "running", "", GONE, {"attempts": [ATTEMPT]}, ())
    (line,) = listing.lines(home, [row])
    assert line.startswith("running       y-1  4 of 10 epochs, val/loss 0.5")


def test_what_the_runs_note_is_listed_with_the_runs(tmp_path):
    known = [
        {"overrides": [f"scheduler={s}"], "notes": ["stays"] * (s == "step")} for s in ("step", "cosine")
    ]
    rows = [Row(str(n), str(n), "running", "", GONE, one, ()) for n, one in enumerate(known)]
    assert listing.noted(rows) == ["stays (1 of 2 runs: scheduler=step)"]


def test_waiting_for_a_large_sweep_says_less_and_less(tmp_path, monkeypatch, capsys):
    clock, pending = Clock(), State("PENDING", "", "Priority")

    def look(home, only):
        ended = min(500, int(clock.now // 10))
        known = [Row(str(n), str(n), "finished", "", GONE, {}, ()) for n in range(ended)]
        return known + [Row(str(n), str(n), "queued", "17", pending, {}, ()) for n in range(ended, 500)]

    def sleep(seconds):
        clock.now += seconds

    monkeypatch.setattr(dispatch.overview, "look", look)
    monkeypatch.setattr(dispatch.time, "monotonic", clock)
    monkeypatch.setattr(dispatch.time, "sleep", sleep)
    assert {row.status for row in dispatch._watch(tmp_path, [], 10.0)} == {"finished"}
    lines = [line[14:] for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["500 queued", "1 finished, 499 queued"] and lines[-1] == "500 finished"
    assert len(lines) < 45  # of 501


def test_text_is_as_wide_as_a_narrow_terminal(monkeypatch):
    text = "fused 135 of 135 runs in 34 groups; the rate first changes after 30 epochs"
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, console.wrapped("plan", text).splitlines())) > 40  # a pipe has no width
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    lines = console.wrapped("plan", text).splitlines()
    assert max(map(len, lines)) <= 40 and " ".join(" ".join(lines).split()) == f"plan {text}"
    monkeypatch.setenv("COLUMNS", "200")
    assert max(map(len, console.wrapped("plan", text * 3).splitlines())) <= 80
