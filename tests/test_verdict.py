"""What is said of a network before it is trained, and that the advice is true."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import WINE, composed
from torch import nn

from sweepwise import run
from sweepwise.diagnosis import advice
from sweepwise.diagnosis.measure import Layer, Measurements
from sweepwise.init import initialize_
from sweepwise.parts import Parts

TEN = "[50,50,50,50,50,50,50,50,50,50]"


def parts_of(*overrides: str) -> Parts:
    return run.build(composed(*WINE, "early_stop=none", *overrides))


def start_of(*overrides: str) -> advice.Diagnosis:
    return advice.diagnose(parts_of(*overrides))


def layer(name: str, std: float, gradient: float = 1.0, **others) -> Layer:
    nothing = {"dead": math.nan, "saturated": math.nan, "equal": False}
    return Layer(name, "Linear", std, std, std, gradient, gradient, **(nothing | others))


def said(stds, gradients, **others) -> list[str]:
    rows = [layer(f"l{n}", std, grad) for n, (std, grad) in enumerate(zip(stds, gradients, strict=True))]
    head = replace(layer("head", 1.0), received=others.pop("received", stds[-1]))
    return advice.complaints(Measurements(9, 1.0, (*rows, head)), expected_loss=1.0)


# --- the bounds: e^3 = 20.09 over the whole depth


@pytest.mark.parametrize(
    ("stds", "gradients", "expected"),
    [
        ([1, 1, 1], [1, 1, 1], []),
        ([1, 0.3, 0.051], [0.051, 0.3, 1], []),
        ([1, 0.3, 0.049], [1, 1, 1], ["activations vanish from l2 (layer 3 of 4) on"]),
        ([1, 0.04, 0.01], [1, 1, 1], ["activations vanish from l1 (layer 2 of 4) on"]),
        ([1, 0.01, 1], [1, 1, 1], []),
        ([1, 4, 19], [19, 4, 1], []),
        ([1, 5, 25], [1, 1, 1], ["activations explode from l2 (layer 3 of 4) on"]),
        ([1, 1, 1], [0.01, 0.1, 1], ["gradients vanish towards the input (x 0.1 a layer)"]),
        ([1, 1, 1], [900, 30, 1], ["gradients explode towards the input (x 30 a layer)"]),
        ([1, 1, 1], [0, 0, 0], []),
        ([1, 1, 1], [math.nan, 1, 1], []),
        ([0, 0, 0], [1, 1, 1], []),
        ([1], [1], []),
    ],
)
def test_signals_that_fade_or_grow_twentyfold(stds, gradients, expected):
    assert said(stds, gradients) == expected


def test_a_branch_may_be_small_if_the_signal_arrives():
    assert said([1, 1, 0], [1, 1, 1], received=1.0) == []


def test_no_hidden_layer_is_no_matter():
    assert advice.complaints(Measurements(9, 1.0, (layer("head", 1.0),)), 1.0) == []


def test_most_units_dead_or_saturated():
    rows = layer("a", 1.0, dead=0.51), layer("b", 1.0, dead=0.5, saturated=0.9), layer("head", 1.0)
    assert advice.complaints(Measurements(9, 1.0, rows), 1.0) == [
        "51% of the units of a are dead: 0 for every example",
        "90% of the outputs of b are saturated",
    ]


def test_loss_bounds():
    row = (layer("head", 1.0),)
    assert not advice.complaints(Measurements(9, 1.25, row), 1.0)
    assert advice.complaints(Measurements(9, 1.26, row), 1.0)[0].startswith("the first loss is 1.3 times")
    assert not advice.complaints(Measurements(9, 0.1, row), 1.0)
    assert not advice.complaints(Measurements(9, 0.1, row), 0.0)
    bad = advice.complaints(Measurements(9, math.nan, row, first_bad="l3"), 1.0)
    assert bad == ["the first loss is nan: not finite from l3 on"]
    assert not advice.complaints(Measurements(9, math.nan, failed="it broke"), 1.0)


# --- the expected loss


def test_outputs_of_zero_have_the_loss_that_is_expected():
    for data, words in {"wine": "ln(3)", "diabetes": "the variance of the targets"}.items():
        parts = parts_of(f"data={data}", "model.hidden=[8]")
        start = advice.diagnose(parts)
        for parameter in parts.model.parameters():
            parameter.data.zero_()
        loss = parts.task.loss(parts.model(parts.data.train.x), parts.data.train.y).item()
        assert start.expected_loss == pytest.approx(loss, rel=1e-5) and start.expected_words == words


def test_the_best_constant_has_the_entropy_of_the_class_frequencies():
    data = parts_of().data
    shares = np.bincount(data.train.y.numpy()) / len(data.train.y)
    expected, constant = advice.expected_losses(data)
    assert expected == pytest.approx(math.log(3))
    assert constant == pytest.approx(-(shares * np.log(shares)).sum()) and constant < expected
    one_class = replace(data, train=replace(data.train, y=torch.zeros(107, dtype=torch.int64)))
    assert advice.expected_losses(one_class) == (pytest.approx(math.log(3)), 0)


# --- whole runs

WRONG = {
    "vanishing": (["init=normal", "model=deep_tanh"], "activations vanish from linear"),
    "alike": ([f"model.hidden={TEN}"], "all examples look alike from linear"),
    "zeros": (["init=zeros", "model=deep_tanh"], "all units of linear0 are equal"),
    "constant": (["init=constant", "model.hidden=[20,20]"], "all units of linear0 are equal"),
    "chaotic": (["init=normal", "init.std=1", "model=deep_tanh"], "gradients explode towards the input"),
    "relu explodes": (["init=normal", "init.std=1", f"model.hidden={TEN}"], "activations explode from"),
    "full output": (["init=kaiming", "init.output_scale=3", "model.hidden=[64]"], "the first loss is "),
    "both": (["init=normal", "init.std=1", "init.output_scale=1", "model=deep_tanh"], "outputs of 0"),
}


@pytest.mark.parametrize(("overrides", "complaint"), WRONG.values(), ids=WRONG)
def test_what_is_advised_helps(overrides, complaint):
    start = start_of(*overrides)
    assert complaint in "; ".join(start.complaints)
    advised, helps, _ = start.advice.partition(" helps (tried: ")
    assert helps
    groups = {override.split("=")[0] for override in advised.split()}
    kept = [o for o in overrides if o.split("=")[0] not in groups and not o.startswith("init.std")]
    after = start_of(*kept, *advised.split())
    assert not after.complaints
    assert f"first loss {after.measurements.loss:.4g}" in start.advice


def test_where_no_initialisation_helps_that_is_said():
    start = start_of(f"model.hidden={TEN}", "model.activation=sigmoid")
    assert "gradients vanish" in "; ".join(start.complaints)
    assert start.advice.startswith("none of xavier, kaiming, orthogonal helps") and "norm" in start.advice


def test_what_is_tried_is_what_conf_holds():
    for text, scheme in advice.SCHEMES.items():
        composed = parts_of("model.hidden=[8]", *text.split()).model
        tried = parts_of("model.hidden=[8]").model
        initialize_(tried, scheme, seed=0)
        wanted = composed.state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in tried.state_dict().items()), text


@pytest.mark.parametrize("init", ["xavier", "kaiming", "orthogonal"])
def test_a_signal_that_is_kept_is_praised(init):
    start = start_of("model=deep_tanh", f"init={init}")
    assert (list(start.complaints), start.advice) == ([], "")
    assert start.praise == "keeps its size through 10 hidden layers"


def test_shallow_networks_get_no_praise():
    assert start_of("model.hidden=[8]", "init=xavier").praise == start_of("model=linear").praise == ""


def test_examples_that_are_not_finite_are_no_matter_of_the_initialisation():
    parts = parts_of("model.hidden=[8]")
    parts.data.train.x[0, 0] = math.nan
    start = advice.diagnose(parts)
    assert start.complaints == ["the first loss is nan: not finite from the examples themselves on"]
    assert start.advice == "the training examples contain values that are not finite; remove or replace these"


def test_advice_costs_no_draw_and_no_weight():
    parts = parts_of("model=deep_tanh", "init=zeros")
    before, state = parts.learner.checksums(), torch.get_rng_state()
    assert advice.diagnose(parts).advice
    assert parts.learner.checksums() == before and torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in parts.model.parameters())
    assert isinstance(parts.model, nn.Sequential) and parts.model.training
