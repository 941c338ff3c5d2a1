"""Ranges of a sweep: what Python's own numbers say of the decimals that are written."""

from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from small import TINY, TRAIN

from hydra_plugins.sweepwise_plugins import _ranges
from hydra_plugins.sweepwise_plugins.grid_sweeper import GridSweeper
from sweepwise.errors import UsageError
from sweepwise.store import record


def values(written: str) -> list[str]:
    (override,) = _ranges.parsed([f"a.b={written}"], None)
    return [job[0].removeprefix("a.b=") for job in GridSweeper.split_arguments([override], None)[0]]


def hydras(written: str) -> list[str]:
    return list(OverridesParser.create().parse_override(f"a.b={written}").sweep_string_iterator())


DRIFTS = hydras("range(0.1,0.5,0.1)")[2] == "0.30000000000000004"  # no longer from 1.4 on


def notes(*lines: str) -> list[str]:
    return _ranges.notes(_ranges.parsed(lines, None), None)


@pytest.mark.parametrize("start", ["0", "0.1", "-0.3", "1e-4", "5", "0.7"])
@pytest.mark.parametrize("step", ["0.1", "0.3", "1e-4", "0.25", "0.05"])
@pytest.mark.parametrize("count", [1, 2, 7, 11])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_range_is_start_and_whole_steps_before_stop(start, step, count, sign):
    by = Decimal(sign + step)
    stop = Decimal(start) + count * by
    expected = [str(float(Decimal(start) + index * by)) for index in range(count)]
    assert values(f"range({start},{stop},{by})") == expected
    assert values(f"range(start={start},stop={stop},step={by})") == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("range(0.1,0.5,0.1)", "0.1,0.2,0.3,0.4"),
        ("range(0,1.1,0.1)", "0.0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0"),
        ("range(0.5,0.1,-0.1)", "0.5,0.4,0.3,0.2"),
        ("range(1e-4,5e-4,1e-4)", "0.0001,0.0002,0.0003,0.0004"),
        ("sort(range(0.1,0.5,0.1),reverse=true)", "0.4,0.3,0.2,0.1"),
        ("sort(sweep=range(0.5,0.1,-0.1))", "0.2,0.3,0.4,0.5"),
        ("sort(range(1,10,4),reverse=true)", "9,5,1"),
        ("sort(shuffle(range(3)))", "0,1,2"),
        ("tag(x,range(0.1,0.4,0.1))", "0.1,0.2,0.3"),
        ("tag(x,sort(range(0.1,0.4,0.1)))", "0.1,0.2,0.3"),
        ("float(range(1,4))", "1.0,2.0,3.0"),
        ("int(range(0.5,3.5))", "0,1,2"),
        ("range(3)", "0,1,2"),
        ("range(0,1.5)", "0.0,1.0"),
        ("range(1e300,3e300,1e300)", "1e+300,2e+300"),
        ("0.1,0.30000000000000004", "0.1,0.30000000000000004"),
        ("sort(3,1,2)", "1,2,3"),
    ],
)
def test_ranges_of_every_kind(written, expected):
    assert ",".join(values(written)) == expected


def test_a_shuffled_range_has_the_same_values():
    for written in ("shuffle(range(0.1,0.5,0.1))", "shuffle(sort(range(0.1,0.5,0.1)))"):
        assert sorted(values(written)) == ["0.1", "0.2", "0.3", "0.4"]


def test_whole_numbers_are_those_of_python():
    for numbers in ((0, 10, 3), (10, 0, -3), (5, 5, 1), (3, 1, 1)):
        assert values(f"range({','.join(map(str, numbers))})") == list(map(str, range(*numbers)))


@pytest.mark.parametrize(
    "written", ["range(0,1,0)", "range(0,1.0,0)", "range(0,inf,1)", "sort(range(0,1,0))"]
)
def test_a_range_without_end_or_step_is_refused(written):
    with pytest.raises(UsageError, match=r"a\.b=.*: (the step of a range must not be 0|.* must be finite)"):
        values(written)


def test_a_note_names_what_differs_from_hydra():
    told = notes("p=range(0.1,0.5,0.1)"), notes("p=range(0,1.1,0.1)")
    if DRIFTS:
        ((short,), (long,)) = told
        assert short == (
            "p=range(0.1,0.5,0.1): is 0.1,0.2,0.3,0.4, as it is written; "
            "Hydra's own range has 0.30000000000000004"
        )
        assert "0.0,0.1,0.2,...,1.0 (11 values)" in long and long.endswith("1.1")
    else:
        assert told == ([], [])
    assert notes("p=range(0.1,0.3,0.1)", "seed.value=range(3)", "a=1,2", "b=range", "c=sort(range(3))") == []


def test_a_command_trains_what_is_written(as_command, empty_folder, whole_errors):
    command = partial(as_command, TRAIN)
    short = [
        *TINY,
        "monitor=none",
        "early_stop=none",
        "trainer.max_steps=2",
        "progress=false",
        "report=false",
    ]
    code, out, err = command("-m", *short, "regularizer=dropout", "regularizer.dropout.p=range(0.1,0.4,0.1)")
    assert (code, err) == (0, "")
    found = [record.read(folder)["overrides"][-1] for folder in Path("outputs/main").glob("*-*")]
    assert sorted(found) == [f"regularizer.dropout.p=0.{tenths}" for tenths in (1, 2, 3)]
    assert ("is 0.1,0.2,0.3, as it is written" in " ".join(out.split())) == DRIFTS
