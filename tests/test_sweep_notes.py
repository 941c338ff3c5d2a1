"""Notes and faults of many runs as few lines: each distinct one once, with the runs that it holds for."""

import pytest

from sweepwise.results.notes import grouped, of_record, where
from sweepwise.sweep import failures, notes
from sweepwise.sweep.failures import Failed

GRID = [
    {"scheduler": scheduler, "lr": lr, "seed": seed}
    for scheduler in ("constant", "step", "cosine")
    for lr in (0.1, 0.2)
    for seed in range(5)
]


def said(note, which):
    return [str(one) for one in grouped([(one, [note(one)] if which(one) else []) for one in GRID])]


@pytest.mark.parametrize(
    ("which", "told"),
    [
        (lambda one: True, "all 30 runs"),
        (lambda one: one["scheduler"] == "step", "10 of 30 runs: scheduler=step"),
        (lambda one: one["scheduler"] != "step", "20 of 30 runs: scheduler=constant,cosine"),
        (
            lambda one: one["scheduler"] == "step" and one["lr"] == 0.2,
            "5 of 30 runs: scheduler=step, lr=0.2",
        ),
        (lambda one: one["seed"] < 4, "24 of 30 runs: seed=0 to 3"),
        (lambda one: one["seed"] == 0 and one["lr"] == 0.1, "3 of 30 runs: lr=0.1, seed=0"),
        (lambda one: one["lr"] == 0.1 or one["seed"] == 0, "18 of 30 runs"),  # nothing tells just these
    ],
)
def test_a_note_is_said_once_with_the_runs_that_it_holds_for(which, told):
    assert said(lambda one: "never acts", which) == [f"never acts ({told})"]


def test_numbers_that_vary_are_in_one_note():
    assert said(lambda one: f"it stays at {one['lr']}", lambda one: one["scheduler"] == "step") == [
        "it stays at 0.1 or 0.2 (10 of 30 runs: scheduler=step)"
    ]
    assert said(lambda one: f"the loss is {one['seed'] + 0.5} times", lambda one: True) == [
        "the loss is 0.5 to 4.5 times (all 30 runs)"
    ]
    names = said(lambda one: f"conv{one['seed'] % 2}d and layer.{one['seed'] % 2}", lambda one: True)
    assert sorted(names) == [
        "conv0d and layer.0 (18 of 30 runs: seed=0,2,4)",
        "conv1d and layer.1 (12 of 30 runs: seed=1,3)",
    ]


def test_what_some_runs_note_comes_first_and_the_rest_is_counted():
    runs = [(["seed=0"], [f"{word} never acts" for word in "abcdefg"]), (["seed=1"], ["g never acts"])]
    told = notes.lines(runs, most=3)
    assert told == [
        "a never acts (1 of 2 runs: seed=0)",
        "b never acts (1 of 2 runs: seed=0)",
        "5 more, which the records of the runs have",
    ]
    assert len(notes.lines(runs, most=7)) == 7 and notes.lines([(["seed=0"], [])]) == []


def test_keys_that_only_some_runs_have_tell_them_too():
    runs = [{"init": "a"}, {"init": "b", "init.gain": 2.0}, {"init": "b", "init.gain": 3.0}]
    assert where([0], runs) == "init=a"
    assert where([2], runs) == "init.gain=3"


def test_a_record_notes_its_settings_and_how_its_network_starts():
    known = {
        "notes": ["never acts"],
        "start": {"complaints": ["too high", "vanishes"], "advice": "init=b helps"},
    }
    assert of_record(known) == ["never acts", "too high; vanishes; init=b helps"]
    assert of_record({"notes": ["never acts"], "start": {"complaints": [], "advice": ""}}) == ["never acts"]
    assert of_record({"notes": None, "start": 3}) == of_record({}) == []


# --- faults


def failed(number, *last, about=""):
    name = f"lr={number},seed=0-{number:08x}"
    return Failed("changed", name, about, last, (f"outputs/main/{name}", name), "")


def test_a_fault_is_said_once_whatever_run_it_names():
    many = [failed(n, f"outputs/main/lr={n},seed=0-{n:08x}: a.py changed") for n in range(135)]
    assert failures.lines(many) == [
        ("changed", "lr=0,seed=0-00000000 and 134 more"),
        ("", "  outputs/main/lr=0,seed=0-00000000: a.py changed"),
    ]
    two = failures.lines([*many, failed(7, "outputs/main/lr=7,seed=0-00000007: b.py changed")])
    assert len(two) == 4 and two[2:] == [
        ("changed", "lr=7,seed=0-00000007"),
        ("", "  outputs/main/lr=7,seed=0-00000007: b.py changed"),
    ]


def test_faults_beyond_a_few_are_counted():
    told = failures.lines([failed(n, f"reason {chr(97 + n)}") for n in range(20) for _ in range(2)])
    assert len(told) == 2 * (failures.MOST - 1) + 1
    assert told[-1] == ("changed", "30 more, for 15 more reasons; see .sweep/logs")
    assert len(failures.lines([failed(n, f"reason {chr(97 + n)}") for n in range(failures.MOST)])) == 12
