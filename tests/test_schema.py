import builtins
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from torch import nn

from sweepwise.config import allowlist
from sweepwise.config.ranges import Range
from sweepwise.config.schema import Bound, bind, check, locate
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.scheduler import Schedule

PATIENCE = "sweepwise.early_stop.patience.Patience"
MLP = "sweepwise.model.mlp.mlp"
SCHEDULERS = "torch.optim.lr_scheduler"


def bound(target: Any, given=(), envelope=None, **values: Any) -> tuple[Bound, list[str]]:
    faults: list[str] = []
    return bind("group", {"_target_": target, **values}, faults, given=given, envelope=envelope), faults


def faults_of(target: Any, **values: Any) -> list[str]:
    return bound(target, **values)[1]


# --- ranges


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "text"),
    [
        (Range(), [-math.inf, -1e308, 0, math.inf], [math.nan], "(-inf, inf)"),
        (Range(0), [0, -0.0, 5e-324, math.inf], [-5e-324, -1, math.nan], "[0, inf)"),
        (Range(0, 1), [0, 0.5, 1], [-1e-9, math.nextafter(1, 2)], "[0, 1]"),
        (Range(0, 1, open_low=True), [5e-324, 1], [0, -0.0], "(0, 1]"),
        (Range(0, 1, open_high=True), [0, math.nextafter(1, 0)], [1, True], "[0, 1)"),
        (Range(0, 1, open_low=True, open_high=True), [0.5], [0, 1], "(0, 1)"),
        (Range(high=3), [-math.inf, 3], [4], "(-inf, 3]"),
        (Range(0, 2**32 - 1), [0, 2**32 - 1], [-1, 2**32], "[0, 4294967295]"),
    ],
)
def test_range_holds_its_ends_unless_they_are_open(limits, inside, outside, text):
    assert [value for value in inside if value not in limits] == []
    assert [value for value in outside if value in limits] == []
    assert str(limits) == text


# --- one value


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (0, int),
        (-(2**63), int),
        (3, float),
        (1e-320, float),
        (True, bool),
        ("", str),
        (None, None),
        (None, int | None),
        (3, int | None),
        (0.0, Annotated[float, Range(0)]),
        (None, Annotated[float, Range(0)] | None),
        ("min", Literal["min", "max"]),
        (2, Literal[1, 2]),
        ([], list[int]),
        ([1, 2], list[Annotated[int, Range(1)]]),
        ((1, 2), list[int]),
        ([1, 2.5], tuple[float, float]),
        ([1, 2, 3], tuple[int, ...]),
        ([], tuple[int, ...]),
        ({"a": object()}, Any),
    ],
)
def test_accepted(value, hint):
    assert check("key", value, hint) == []


WRONG_TYPES = [
    ("abc", int, "key=abc: must be a whole number"),
    ("3", int, "key=3: must be a whole number"),
    (3.0, int, "key=3.0: must be a whole number"),
    (True, int, "key=true: must be a whole number"),
    (None, int, "key=null: must be a whole number"),
    ([1], int, "key=[1]: must be a whole number"),
    ("abc", float, "key=abc: must be a number"),
    ("1e-3", float, "key=1e-3: must be a number"),
    (False, float, "key=false: must be a number"),
    (None, float, "key=null: must be a number"),
    ([0.1], float, "key=[0.1]: must be a number"),
    ({"a": 1}, float, "key={'a': 1}: must be a number"),
    (1, bool, "key=1: must be true or false"),
    ("yes", bool, "key=yes: must be true or false"),
    (3, str, "key=3: must be text"),
    (None, str, "key=null: must be text"),
    (0, type(None), "key=0: must be null"),
    ("abc", int | None, "key=abc: must be a whole number or null"),
    (True, float | None, "key=true: must be a number or null"),
    ("mean", Literal["min", "max"], "key=mean: must be one of min, max"),
    (True, Literal[1, 2], "key=true: must be one of 1, 2"),
    (1.0, Literal[1, 2], "key=1.0: must be one of 1, 2"),
    (3, list[int], "key=3: must be a list, each a whole number"),
    ("ab", list[str], "key=ab: must be a list, each text"),
    (None, list[int], "key=null: must be a list, each a whole number"),
    ([1, "a"], list[int], "key=[1, 'a']: must be a list, each a whole number"),
    ([1, True], list[int], "key=[1, True]: must be a list, each a whole number"),
    ([1, 0], list[Annotated[int, Range(1)]], "key=[1, 0]: must be a list, each a whole number in [1, inf)"),
    ([0.9], tuple[float, float], "key=[0.9]: must be 2 values, each a number"),
    ([0.9, 1, 1], tuple[float, float], "key=[0.9, 1, 1]: must be 2 values, each a number"),
    ("ab", tuple[str, str], "key=ab: must be 2 values, each text"),
    (["a"], tuple[int, ...], "key=['a']: must be a list, each a whole number"),
    ("x", Annotated[float, Range(0, 1)], "key=x: must be a number in [0, 1]"),
    (True, Annotated[int, Range(0)], "key=true: must be a whole number in [0, inf)"),
    (-1, Annotated[int, Range(0)] | None, "key=-1: must be a whole number in [0, inf) or null"),
]


@pytest.mark.parametrize(("value", "hint", "message"), WRONG_TYPES, ids=lambda part: str(part)[:40])
def test_wrong_types(value, hint, message):
    assert check("key", value, hint) == [message]


@pytest.mark.parametrize("hint", [float, Annotated[float, Range()], Annotated[float, Range(0)]])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e400])
def test_numbers_must_be_finite(value, hint):
    assert check("key", value, hint) == [f"key={value}: must be finite"]


@pytest.mark.parametrize("hint", [list[float], tuple[float, ...], tuple[float, float], Any])
def test_numbers_in_lists_must_be_finite(hint):
    assert check("key", [1.0, math.nan], hint) == ["key=[1.0, nan]: must be finite"]


def test_an_optional_number_must_be_finite_too():
    assert len(check("key", math.inf, float | None)) == 1
    assert len(check("key", math.nan, Annotated[float, Range(0)] | None)) == 1


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (-1, Range(0)),
        (1, Range(0, 1, open_high=True)),
        (0, Range(0, open_low=True)),
        (2**32, Range(0, 2**32 - 1)),
    ],
)
def test_numbers_must_lie_in_the_range(value, limits):
    for hint in (int, float):
        assert check("key", value, Annotated[hint, limits]) == [f"key={value}: must be in {limits}"]


def test_whole_numbers_beyond_the_largest_float():
    huge = 10**400
    assert check("key", huge, int) == []
    assert check("key", huge, Annotated[int, Range(0, 9)]) == [f"key={huge}: must be in [0, 9]"]
    assert check("key", huge, float) == [f"key={huge}: must be a number"]


@drawn(st.floats() | st.integers(-(2**64), 2**64))
def test_any_number_is_judged_by_finiteness_and_ends_alone(value):
    wanted = math.isfinite(value) and 0 <= value < 1
    assert (check("key", value, Annotated[float, Range(0, 1, open_high=True)]) == []) == wanted


# --- hints


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("patiense", ["metric", "patience"], "did you mean 'patience'?"),
        ("zzz", ["metric", "patience"], "there is metric, patience"),
        ("zzz", [], "it has none"),
        ("metrc", (name for name in ("metric",)), "did you mean 'metric'?"),
    ],
)
def test_did_you_mean(word, known, hint):
    assert did_you_mean(word, known) == hint


# --- a node


def test_bound_values_reach_the_target_and_nothing_else():
    part, faults = bound("torch.optim.Adam", given={"params"}, lr=0.25, betas=[0.5, 0.75])
    assert faults == [] and dict(part.envelope) == {}
    parameter = nn.Parameter(torch.ones(1))
    optimizer = part.target([parameter])
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (0.25, (0.5, 0.75))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("patiense", "group.patiense: unknown; did you mean 'patience'?"),
        ("zzz", "group.zzz: unknown; there is divergence_threshold, metric, min_delta, min_epochs, mode, "),
        ("_patience", "group._patience: unknown; did you mean 'patience'?"),
    ],
)
def test_unknown_keys(key, message):
    (fault,) = faults_of(PATIENCE, **{key: 3})
    assert fault.startswith(message)


def test_a_target_without_parameters_says_so():
    assert faults_of("sweepwise.regularizer.Regularizer", p=1) == ["group.p: unknown; it has none"]
    assert faults_of("sweepwise.regularizer.Regularizer") == []


def test_missing_values():
    given = {"features", "outputs"}
    assert faults_of(MLP, given=given) == ["group.hidden: must be given"]
    assert faults_of(MLP, given=given, hidden=[]) == []
    assert faults_of("sweepwise.seed.Seeds", value=0, noise=0) == [
        "group.data: must be given",
        "group.init: must be given",
    ]
    assert faults_of(f"{SCHEDULERS}.StepLR", given={"optimizer"}) == ["group.step_size: must be given"]


def test_a_value_that_stands_at_several_is_told_once():
    assert faults_of("sweepwise.seed.Seeds", value="x", data=-1, init="x", noise="x") == [
        "group.value=x: must be a whole number in [0, 4294967295]; the same for init, noise",
        "group.data=-1: must be in [0, 4294967295]",
    ]


def test_given_parameters_are_refused_and_not_missed():
    assert faults_of(MLP, given={"features", "outputs"}, hidden=[], features=[3]) == [
        "group.features: unknown; there is activation, bias, dropout, hidden, norm"
    ]
    assert faults_of("torch.optim.SGD", given={"params"}, params=[])[0].startswith("group.params: unknown")
    assert faults_of("torch.optim.SGD", lr=0.1) == ["group.params: must be given"]


ENVELOPE = {"envelope": Schedule, "given": {"optimizer", "last_epoch"}}


def test_the_envelopes_keywords_stand_apart():
    part, faults = bound(f"{SCHEDULERS}.StepLR", **ENVELOPE, step_size=3, warmup=2, per="step", end=None)
    assert faults == []
    assert part.target.keywords == {"step_size": 3}
    assert dict(part.envelope) == {"warmup": 2, "per": "step", "end": None}


def test_the_envelopes_keywords_are_checked():
    values = {"step_size": 3, "warmup": -1, "per": "day", "end": -1, "wramup": 1}
    assert faults_of(f"{SCHEDULERS}.StepLR", **ENVELOPE, **values) == [
        "group.warmup=-1: must be in [0, inf)",
        "group.per=day: must be one of epoch, step",
        "group.end=-1: must be a whole number in [0, inf) or null",
        "group.wramup: unknown; did you mean 'warmup'?",
    ]


@pytest.mark.parametrize("key", ["scheduler", "lr", "steps", "steps_per_epoch"])
def test_what_the_envelope_gets_from_its_caller_can_not_be_set(key):
    assert faults_of(f"{SCHEDULERS}.ExponentialLR", **ENVELOPE, gamma=0.5) == []
    (fault,) = faults_of(f"{SCHEDULERS}.ExponentialLR", **ENVELOPE, gamma=0.5, **{key: 1})
    assert fault.startswith(f"group.{key}: unknown; ")


def test_all_faults_of_all_nodes_are_gathered():
    faults: list[str] = []
    bind("one", {"_target_": PATIENCE, "patience": "x", "min_delta": -1, "mod": "min"}, faults)
    bind("two", {"_target_": "os.system"}, faults)
    bind("three", {"_target_": MLP, "dropout": 1}, faults, given={"features", "outputs"})
    assert [fault.split(":")[0] for fault in faults] == [
        "one.patience=x",
        "one.min_delta=-1",
        "one.mod",
        "two._target_=os.system",
        "three.dropout=1",
        "three.hidden",
    ]
    error = UsageError(faults)
    assert error.faults == faults and str(error).splitlines() == faults


def test_binding_leaves_the_node_as_it_was():
    node = {"_target_": "torch.optim.Adam", "betas": [0.9, 0.99], "lr": "x"}
    bind("group", node, [], given={"params"})
    assert node == {"_target_": "torch.optim.Adam", "betas": [0.9, 0.99], "lr": "x"}


@pytest.mark.parametrize("value", [-1, 2**32, 1.0, "0", True, None])
@pytest.mark.parametrize("stream", ["value", "data", "init", "noise"])
def test_bad_seeds(stream, value):
    seeds = {"value": 0, "data": 0, "init": 0, "noise": 0}
    (fault,) = faults_of("sweepwise.seed.Seeds", **{**seeds, stream: value})
    assert fault.startswith(f"group.{stream}=") and "in [0, 4294967295]" in fault
    assert faults_of("sweepwise.seed.Seeds", **{**seeds, stream: 2**32 - 1}) == []


# --- torch's own classes: their types, and the ranges their names have everywhere


@pytest.mark.parametrize(
    ("target", "value", "message"),
    [
        ("optim.Adam", {"lr": -5}, "lr=-5: must be in [0, inf)"),
        ("optim.Adam", {"lr": "abc"}, "lr=abc: must be a number in [0, inf)"),
        ("optim.Adam", {"lr": None}, "lr=null: must be a number in [0, inf)"),
        ("optim.Adam", {"lr": math.nan}, "lr=nan: must be finite"),
        ("optim.Adam", {"lr": 1e400}, "lr=inf: must be finite"),
        ("optim.Adam", {"betas": [0.9, 1.0]}, "betas=[0.9, 1.0]: must be in [0, 1)"),
        ("optim.Adam", {"betas": 0.9}, "betas=0.9: must be 2 values, each a number in [0, 1)"),
        ("optim.Adam", {"betas": [0.9]}, "betas=[0.9]: must be 2 values, each a number in [0, 1)"),
        ("optim.Adam", {"eps": -1e-8}, "eps=-1e-08: must be in [0, inf)"),
        ("optim.Adam", {"weight_decay": True}, "weight_decay=true: must be a number in [0, inf)"),
        ("optim.Adam", {"amsgrad": 1}, "amsgrad=1: must be true or false"),
        ("optim.Adam", {"momentum": 0.9}, None),
        ("optim.SGD", {"momentum": 1}, "momentum=1: must be in [0, 1)"),
        ("optim.SGD", {"dampening": 1.5}, "dampening=1.5: must be in [0, 1]"),
        ("optim.SGD", {"nesterov": "true"}, "nesterov=true: must be true or false"),
        ("optim.SGD", {"weight_decay": -0.1}, "weight_decay=-0.1: must be in [0, inf)"),
        ("optim.RMSprop", {"alpha": 1}, "alpha=1: must be in [0, 1)"),
        ("optim.lr_scheduler.StepLR", {"step_size": 0}, "step_size=0: must be in [1, inf)"),
        (
            "optim.lr_scheduler.StepLR",
            {"step_size": 1.5},
            "step_size=1.5: must be a whole number in [1, inf)",
        ),
        ("optim.lr_scheduler.StepLR", {"step_size": 1, "gamma": 0}, "gamma=0: must be in (0, inf)"),
        ("optim.lr_scheduler.ExponentialLR", {"gamma": -1}, "gamma=-1: must be in (0, inf)"),
        ("optim.lr_scheduler.CosineAnnealingLR", {"T_max": 0}, "T_max=0: must be in [1, inf)"),
        (
            "optim.lr_scheduler.CosineAnnealingLR",
            {"T_max": 9, "eta_min": -1},
            "eta_min=-1: must be in [0, inf)",
        ),
        ("optim.lr_scheduler.ReduceLROnPlateau", {"mode": "up"}, "mode=up: must be one of min, max"),
        ("optim.lr_scheduler.ReduceLROnPlateau", {"factor": 2}, "factor=2: must be in [0, 1]"),
        ("optim.lr_scheduler.ReduceLROnPlateau", {"patience": -1}, "patience=-1: must be in [0, inf)"),
        ("optim.lr_scheduler.ReduceLROnPlateau", {"patience": 1.5}, "patience=1.5: must be a whole number"),
        (
            "optim.lr_scheduler.ReduceLROnPlateau",
            {"min_lr": [0.1, -1]},
            "min_lr=[0.1, -1]: must be in [0, inf)",
        ),
        ("nn.init.kaiming_normal_", {"mode": "fan"}, "mode=fan: must be one of fan_in, fan_out"),
        ("nn.init.kaiming_normal_", {"nonlinearity": "rleu"}, "nonlinearity=rleu: must be one of linear, "),
        ("nn.init.kaiming_normal_", {"a": "x"}, "a=x: must be a number"),
        ("nn.init.normal_", {"std": -1}, "std=-1: must be in [0, inf)"),
        ("nn.init.xavier_normal_", {"gain": -1}, "gain=-1: must be in [0, inf)"),
    ],
)
def test_torchs_own_classes(target, value, message):
    (fault,) = faults_of(f"torch.{target}", given={"params", "optimizer", "tensor", "generator"}, **value)
    assert fault.startswith(f"group.{message}" if message else "group.momentum: unknown; ")


@pytest.mark.parametrize(
    ("target", "values"),
    [
        ("optim.Adam", {"lr": 0, "betas": [0, 0.999], "eps": 0, "weight_decay": 0, "amsgrad": True}),
        ("optim.Adam", {"fused": None, "foreach": False}),
        ("optim.SGD", {"lr": 1, "momentum": 0.9, "nesterov": True, "dampening": 0}),
        ("optim.lr_scheduler.StepLR", {"step_size": 1, "gamma": 2}),
        ("optim.lr_scheduler.ReduceLROnPlateau", {"mode": "max", "min_lr": [0.1], "threshold_mode": "abs"}),
        ("nn.init.kaiming_normal_", {"a": 0.1, "mode": "fan_out", "nonlinearity": "leaky_relu"}),
        ("nn.init.zeros_", {}),
        ("nn.Linear", {"in_features": 3, "out_features": 4, "bias": False}),
    ],
)
def test_good_values_of_torchs_own_classes(target, values):
    assert faults_of(f"torch.{target}", given={"params", "optimizer", "tensor", "generator"}, **values) == []


# --- targets; which of them are allowed is what tests/test_allowlist.py says


def test_a_refused_target_is_neither_imported_nor_called(tmp_path, monkeypatch):
    (tmp_path / "module_that_tells.py").write_text("def act():\n    raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "open", lambda *args: pytest.fail("was called"))
    part, faults = bound("module_that_tells.act")
    assert len(faults) == 1 and "module_that_tells" not in sys.modules
    part, faults = bound("builtins.open", file="x", mode="w")
    assert len(faults) == 1 and part.target.func is dict


def test_a_node_without_a_target_is_a_fault():
    faults: list[str] = []
    bind("group", {"lr": 1}, faults)
    assert len(faults) == 1 and faults[0].startswith("group._target_=null: must be one of ")


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("torch.optim.Adamm", "not found"),
        ("torch.nn.nothing.Linear", "not found"),
        ("sweepwise.data.nothing.Thing", "not found"),
        ("sweepwise.early_stop.patience", "must be a class or a function"),
        ("sweepwise.scheduler.schedule.ROUNDING", "must be a class or a function"),
    ],
)
def test_targets_that_cannot_be_built(target, rule):
    (fault,) = faults_of(target)
    assert fault.startswith(f"group._target_={target}: {rule}")


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("torch.optim.Adam", torch.optim.Adam),
        ("torch.nn.init.kaiming_normal_", nn.init.kaiming_normal_),
        ("torch.nn.Linear", nn.Linear),
        ("sweepwise.scheduler.Schedule", Schedule),
    ],
)
def test_locate(target, found):
    assert locate("group", target) is found


@pytest.mark.parametrize("target", ["torch.nn.", "torch.optim.Adam()", "sweepwise.model mlp", "torch.nn.:x"])
def test_a_target_that_is_no_name_is_a_fault(target):
    assert len(faults_of(target)) == 1


@pytest.mark.parametrize("target", ["torch.nn.functional.conv2d", "torch.nn.functional.avg_pool1d"])
def test_a_target_without_a_signature_is_a_fault(target):
    assert len(faults_of(target, stride=1)) == 1


def scaled(
    *,
    factor: Annotated[float, Range(0)] = 1.0,
    steps: Sequence[int] = (),
    options: Mapping[str, int] | None = None,
) -> None:
    """A target of the tests."""


def replaced(**values: Any) -> None:
    """Another one that takes its place."""


SCALED = f"{__name__}.scaled"


@pytest.fixture
def own_allowed(monkeypatch):
    monkeypatch.setattr(allowlist, "_allowed", {__name__})


def test_the_same_values_are_bound_once(own_allowed):
    first, faults = bound(SCALED, factor=2.0, steps=[1])
    again, more = bound(SCALED, factor=2.0, steps=[1])
    assert again is first and faults == more == []
    assert first.target.keywords == {"factor": 2.0, "steps": (1,)}


@pytest.mark.parametrize("values", [{"factor": 2}, {"factor": 1.0}, {"factor": 2.0, "steps": [1]}, {}])
def test_other_values_are_bound_anew(values, own_allowed):
    bound(SCALED, factor=2.0)
    found, faults = bound(SCALED, **values)
    wanted = {name: tuple(value) if name == "steps" else value for name, value in values.items()}
    assert repr(found.target.keywords) == repr(wanted) and not faults  # 2 is not 2.0 here


def test_the_same_fault_is_found_each_time(own_allowed):
    assert faults_of(SCALED, factor=-1.0) == faults_of(SCALED, factor=-1.0) != []


def test_values_that_a_target_could_change_are_not_shared(own_allowed):
    found = [bound(SCALED, options={"a": 1})[0] for _ in range(2)]
    assert found[0] is not found[1]
    assert found[0].target.keywords["options"] == {"a": 1}


def test_a_target_that_was_replaced_is_found(monkeypatch, own_allowed):
    bound(SCALED, factor=2.0)
    monkeypatch.setattr(sys.modules[__name__], "scaled", replaced)
    node = {"_target_": SCALED, "factor": 2.0}
    assert bind("own", node, []).target.func is replaced


def test_a_package_that_is_not_allowed_any_longer_is_refused(monkeypatch, own_allowed):
    bound(SCALED, factor=2.0)
    monkeypatch.setattr(allowlist, "_allowed", set())
    faults: list[str] = []
    bind("own", {"_target_": SCALED, "factor": 2.0}, faults)
    assert len(faults) == 1 and "_target_" in faults[0]
