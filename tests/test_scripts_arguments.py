"""What scripts share: their own settings, options beside each other, runs that are trained once."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweepwise.errors import UsageError
from sweepwise.store import history, record
from sweepwise.store.request import Request
from sweepwise.tools import scripting

KEYS = {"init": {"xavier": {"gain": 1}, "normal": {"std": 1, "mean": 0}, "zeros": {}}}


def compose(overrides) -> Request:
    """As Hydra would, of one group."""
    group, _, name = overrides[0].partition("=")
    config = dict(KEYS[group][name])
    for override in overrides[1:]:
        key, _, value = override.partition("=")
        head, _, leaf = key.partition(".")
        if head == group:
            if leaf not in config:
                raise UsageError([f"{override}: {name} has no {leaf}"])
            config[leaf] = value
    return Request({group: config}, list(overrides))


def test_settings_are_told_from_overrides():
    own, rest = scripting.settings(
        ["init=a,b", "x.y=1=2", "figure=p.png"], figure="f.png", init="c", seeds="0"
    )
    assert own == {"figure": "p.png", "init": "a,b", "seeds": "0"}
    assert rest == ["x.y=1=2"]
    assert scripting.settings([], figure="f.png") == ({"figure": "f.png"}, [])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["word"], "word: must be KEY=VALUE"),
        (["--fast=1"], "--fast=1: must be KEY=VALUE"),
        (["init=a", "init=b"], "init=b: init is given twice"),
        (["init="], "init=: must be given a value"),
        (["figure=picture"], "figure=picture: must end in .png"),
        (["figure=a.txt", "word"], "word: must be KEY=VALUE"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(arguments, told):
    with pytest.raises(UsageError) as refused:
        scripting.settings(arguments, figure="f.png", init="c")
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["", "a,,b", "a,a", "a, a"])
def test_a_list_names_each_thing_once(text):
    with pytest.raises(UsageError, match="each named once"):
        scripting.words("init", text)


def test_lists_and_all_options(tmp_path):
    (tmp_path / "init").mkdir()
    for name in ("xavier", "normal"):
        (tmp_path / "init" / f"{name}.yaml").touch()
    assert scripting.options(tmp_path, "init", "all") == ["normal", "xavier"]
    assert scripting.options(tmp_path, "init", "zeros, xavier") == ["zeros", "xavier"]


def test_a_key_goes_to_the_options_that_have_it():
    found = scripting.beside_each_other(
        compose, "init", ["xavier", "normal", "zeros"], ["init.std=3", "data=wine"]
    )
    assert list(found) == ["xavier", "normal", "zeros"]
    assert found["normal"].config["init"] == {"std": "3", "mean": 0}
    assert found["xavier"].config["init"] == {"gain": 1}
    assert all("data=wine" in request.overrides for request in found.values())


def test_a_key_that_no_option_has_is_refused():
    with pytest.raises(UsageError, match="xavier has no std"):
        scripting.beside_each_other(compose, "init", ["xavier", "zeros"], ["init.std=3"])


def test_an_option_that_needs_more_is_left_out_only_when_asked(capsys):
    def needs_a_path(overrides):
        if overrides[0] == "init=checkpoint":
            raise UsageError(["init.path: must be given"])
        return compose(overrides)

    names = ["checkpoint", "zeros"]
    assert list(scripting.beside_each_other(needs_a_path, "init", names, [], leave_out=True)) == ["zeros"]
    assert capsys.readouterr().out == "left out      checkpoint: init.path: must be given\n"
    for several, leave_out in ((names, False), (names[:1], True)):
        with pytest.raises(UsageError, match="must be given"):
            scripting.beside_each_other(needs_a_path, "init", several, [], leave_out=leave_out)


def test_what_cannot_be_drawn_is_left_out_only_when_asked(capsys):
    requests = {name: Request({"name": name}) for name in ("good", "bad")}

    def draw(request):
        if request.config["name"] == "bad":
            raise UsageError(["does not fit"])
        return 1

    assert scripting.each(requests, draw, leave_out=True) == {"good": 1}
    assert "left out      bad: does not fit" in capsys.readouterr().out
    with pytest.raises(UsageError, match="does not fit"):
        scripting.each(requests, draw, leave_out=False)
    with pytest.raises(UsageError, match="bad: does not fit"):
        scripting.each({"bad": requests["bad"]}, draw, leave_out=True)


@pytest.mark.parametrize("panels", range(1, 30))
def test_a_grid_holds_all_panels_without_an_empty_row(panels):
    rows, columns = scripting.grid(panels)
    assert (rows - 1) * columns < panels <= rows * columns
    assert scripting.grid(4) == (2, 2)


class Asked(Request):
    def __init__(self, folder: Path) -> None:
        super().__init__({"place": folder})

    @property
    def folder(self) -> Path:
        return self.config["place"]


@pytest.mark.parametrize(
    ("status", "times"), [("", 1), ("interrupted", 1), ("running", 1), ("finished", 0), ("diverged", 0)]
)
def test_a_run_that_has_ended_is_not_trained_again(status, times, tmp_path, capsys):
    if status:
        record.Record(tmp_path).end(status, "")
    trained = []

    def train(request):
        trained.append(request)
        print("a lot")
        record.Record(request.folder).end("finished", "")
        return SimpleNamespace(exit_code=0)

    assert scripting.trained(Asked(tmp_path), train) == tmp_path
    assert len(trained) == times and "a lot" not in capsys.readouterr().out


@pytest.mark.parametrize(("code", "raised"), [(130, KeyboardInterrupt), (143, SystemExit)])
def test_an_interrupted_training_ends_the_script(code, raised, tmp_path):
    with pytest.raises(raised):
        scripting.trained(Asked(tmp_path), lambda request: SimpleNamespace(exit_code=code))


def test_history_reads_validated_epochs(tmp_path):
    with pytest.raises(UsageError, match="not the folder of a run"):
        history.history(tmp_path)
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 3, "lr": 1}\n')
    with pytest.raises(UsageError, match="no epoch of this run has ended yet"):
        history.history(tmp_path)
    first, second = {"step": 4, "epoch": 0, "train/loss": 3}, {"step": 9, "epoch": 1, "train/loss": 2}
    log.write_text(f'{{"step": 3, "lr": 1}}\n{json.dumps(first)}\n{json.dumps(second)}\n')
    assert history.history(tmp_path) == [first, second]  # there is no validation part
    second |= {"val/loss": 2}
    log.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert history.history(tmp_path) == [second]
