"""torchrun's variables, each held against its rule before anything is done: a bad one is bad usage."""

import os

import commands
import pytest
from small import TRAIN

from sweepwise.distributed import place as place_module
from sweepwise.distributed.join import join_world
from sweepwise.distributed.place import WAY_OUT, Place, place
from sweepwise.errors import UsageError

GOOD = {
    "RANK": "1",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
WHOLE = "must be a whole number"
WRONG = [
    ("WORLD_SIZE", "abc", f"{WHOLE} >= 1"),
    ("WORLD_SIZE", "0", f"{WHOLE} >= 1"),
    ("WORLD_SIZE", "-2", f"{WHOLE} >= 1"),
    ("WORLD_SIZE", "9" * 5000, f"{WHOLE} >= 1"),  # int() itself refuses so many digits
    ("RANK", "abc", f"{WHOLE} >= 0"),
    ("RANK", "1.0", f"{WHOLE} >= 0"),
    ("RANK", "2", "must be below WORLD_SIZE=2"),
    ("LOCAL_RANK", "-1", f"{WHOLE} >= 0"),
    ("LOCAL_RANK", "2", "must be below WORLD_SIZE=2"),
    ("MASTER_PORT", "abc", f"{WHOLE} from 1 to 65535"),
    ("MASTER_PORT", "0", f"{WHOLE} from 1 to 65535"),
    ("MASTER_PORT", "65536", f"{WHOLE} from 1 to 65535"),
    ("MASTER_PORT", "٢٩٥٠٠", f"{WHOLE} from 1 to 65535"),
    ("MASTER_ADDR", "two words", "must be the name or the address of rank 0's machine"),
    ("MASTER_ADDR", "two..dots", "must be the name or the address of rank 0's machine"),
]


def test_good_ones_are_taken():
    assert place(GOOD) == Place(1, 2, 0)
    assert place(GOOD | {"MASTER_PORT": "65535", "MASTER_ADDR": "::1"}) == Place(1, 2, 0)
    assert place(GOOD | {"LOCAL_RANK": ""}) == Place(1, 2, 1)
    assert place({"RANK": "7", "MASTER_PORT": "abc"}) == Place(0, 1, 0)  # nobody has asked for several
    assert place(GOOD | {"WORLD_SIZE": "1", "RANK": "0"}) == Place(0, 1, 0)


@pytest.mark.parametrize("name, value, rule", WRONG)
def test_a_wrong_one_is_refused_with_its_value_its_rule_and_the_way_out(name, value, rule):
    with pytest.raises(UsageError) as refused:
        place(GOOD | {name: value})
    (line,) = refused.value.faults
    assert line == f"{name}={value}: {rule}; {WAY_OUT}"


@pytest.mark.parametrize("name", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_missing_one_is_named(name):
    with pytest.raises(UsageError, match=f"WORLD_SIZE=2: needs {name} to be set too"):
        place(GOOD | {name: ""})


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(UsageError) as refused:
        place({"WORLD_SIZE": "2", "RANK": "x", "MASTER_PORT": "y"})
    assert [line.split(":")[0] for line in refused.value.faults] == [
        "RANK=x",
        "MASTER_PORT=y",
        "WORLD_SIZE=2",
    ]


def test_a_host_that_is_not_known_is_refused(monkeypatch):
    monkeypatch.setattr(place_module, "NAMING_SECONDS", 0.3)
    for name, value in (GOOD | {"MASTER_ADDR": "nobody.invalid"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"MASTER_ADDR=nobody.invalid: .* that this machine can resolve \("):
        join_world()


@pytest.mark.parametrize("name, value", [("MASTER_PORT", "abc"), ("RANK", "2"), ("WORLD_SIZE", "two")])
def test_the_command_ends_with_2_and_one_line(tmp_path, name, value):
    words = [TRAIN, f"output_dir={tmp_path}/out"]
    ended = commands.run(words, os.environ | GOOD | {name: value}, cwd=tmp_path, timeout=60)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: {name}={value}: must be ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
