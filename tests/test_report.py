"""What a person reads before a run: short, in 80 columns, true, and without a trace in the training."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small import PLAIN, WINE, composed

from sweepwise import run
from sweepwise.diagnosis import advice
from sweepwise.diagnosis.measure import Measurements
from sweepwise.run import description, from_config
from sweepwise.store import record
from sweepwise.system import console

SMALL = [*WINE, *PLAIN, "monitor=none"]


@pytest.fixture
def trained(tmp_path, capsys):
    """Trains a run; returns its folder and the lines that it printed."""

    def train(*overrides: str) -> tuple[Path, list[str]]:
        asked = composed(*SMALL, f"output_dir={tmp_path}", "trainer.max_epochs=2", *overrides)
        capsys.readouterr()
        run.train(asked)
        return asked.folder, capsys.readouterr().out.splitlines()

    return train


def by_key(lines: list[str]) -> dict[str, str]:
    """What each line says, with what goes on below it."""
    found: dict[str, str] = {}
    for line in lines:
        key = line[: console.INDENT].strip() or list(found)[-1]
        found[key] = f"{found.get(key, '')} {line[console.INDENT :].strip()}".strip()
    return found


@pytest.mark.parametrize("overrides", [["model=deep_tanh", "init=normal"], ["model.hidden=[8,8]"]])
def test_the_report_fits_a_terminal(overrides, trained):
    _, lines = trained(*overrides)
    opening = lines[: next(n for n, line in enumerate(lines) if line.startswith("look")) + 1]
    assert len(opening) <= 11
    assert all(len(line) <= console.COLUMNS for line in opening if not line.startswith(("folder", "look")))
    keys = ["data", "model", "train", "first loss", "forward", "backward", "signal"]
    assert [key for key in by_key(opening) if key != "advice"] == [*keys, "folder", "look"]


def test_the_report_says_what_will_be_trained(trained):
    _, lines = trained("model.hidden=[8]", "seed.value=0", "seed.init=4", "optimizer.lr=0.01")
    said = by_key(lines)
    assert said["data"] == "wine: 107 train, 35 val, 36 test; 13 features, 3 classes"
    assert said["model"] == "139 parameters, 11 of them biases and gains, not regularised"
    assert said["train"] == "14 steps of batch 16, lr 0.01, cpu, 1 thread, seed 0 (init 4)"
    assert "outputs of 0 have 1.099, ln(3)" in said["first loss"]
    assert not {"forward", "backward", "signal", "advice"} & said.keys()


def test_a_network_without_hidden_layers_has_a_loss_only(trained):
    _, lines = trained("model=linear", "init=xavier")
    assert by_key(lines)["first loss"] and not {"forward", "signal", "advice"} & by_key(lines).keys()


def test_a_network_in_trouble_is_told_so_with_a_way_out(trained):
    _, lines = trained("model=deep_tanh", "init=normal")
    said = by_key(lines)
    assert said["signal"].startswith("activations vanish from linear")
    assert "gradients vanish towards the input (x 0.0" in said["signal"]
    assert said["advice"].startswith("init=xavier helps (tried: first loss 1.")
    assert " in linear0 -> " in said["forward"] and said["forward"].endswith(" a layer")
    assert " in linear9 -> " in said["backward"] and said["backward"].endswith(" a layer")


def test_the_record_holds_the_whole_table(trained):
    folder, _ = trained("model=deep_tanh", "init=zeros")
    start = record.read(folder)["start"]
    assert [layer["name"] for layer in start["layers"]] == [*(f"linear{n}" for n in range(10)), "output"]
    assert start["loss"] == start["expected_loss"] == float(f"{math.log(3):.6g}")
    assert start["complaints"] == ["all units of linear0 are equal: they get equal gradients and stay equal"]
    assert "NaN" not in (folder / "record.json").read_text() and json.dumps(start)


def test_weights_are_the_same_to_the_bit_without_the_examination(trained, monkeypatch):
    overrides = ["model.hidden=[16,16]", "model.norm=batch", "regularizer=dropout", "init=zeros"]
    names = ["best", "last"]

    def weights(folder: Path) -> list[bytes]:
        return [(folder / "checkpoints" / name / "weights.safetensors").read_bytes() for name in names]

    examined = weights(trained(*overrides)[0])
    nothing = advice.Diagnosis(Measurements(0, math.nan, failed="not looked at"), 1.0, "", 1.0, [])
    monkeypatch.setattr(advice, "diagnose", lambda parts: nothing)
    folder, lines = trained(*overrides, "fresh=true")
    assert by_key(lines)["signal"] == "not examined: not looked at"
    assert weights(folder) == examined


def test_a_first_loss_that_is_not_finite_is_said_before_training(trained):
    _, lines = trained("model.hidden=[8,8]", "init=normal", "init.std=3e38")
    said = by_key(lines)
    assert said["signal"].startswith("the first loss is nan: not finite from linear0 on")
    assert said["advice"].startswith("init=kaiming helps")
    assert list(said).index("signal") < list(said).index("diverged")


def test_a_model_that_does_not_run_fails_as_ever(trained, monkeypatch, capsys):
    class Broken(torch.nn.Linear):
        def forward(self, x):
            raise RuntimeError("a shape does not fit")

    build = run.build

    def with_broken_model(request, world):
        parts = build(request, world)
        parts.model.output.__class__ = Broken
        return parts

    monkeypatch.setattr(from_config, "build", with_broken_model)
    with pytest.raises(RuntimeError, match="a shape does not fit"):
        trained("model.hidden=[8]")
    said = by_key(capsys.readouterr().out.splitlines())
    assert said["signal"] == "not examined: RuntimeError: a shape does not fit"


def test_a_long_line_goes_on_below_but_never_breaks_a_path():
    path = "/a/very-long/" + 90 * "x"
    assert console.wrapped("folder", path) == f"{'folder':<14}{path}"
    lines = console.wrapped("note", 40 * "word ").split("\n")
    assert max(map(len, lines)) <= 80 and all(line.startswith(" " * 14) for line in lines[1:])
    assert console.wrapped("k", "") == "k" + 13 * " "


TEXTS = [
    "1e3",
    "on",
    "true",
    "null",
    "~",
    "0x1F",
    "1_000",
    "2001-01-01",
    "12:30:45",
    "-",
    "",
    " a",
    "#x",
    "a: b",
]
PLAIN = {
    "numbers": [1e-3, 1e-20, 5, float("inf"), 2.5e300],
    "others": [None, True, {}, [], {"nested": [{"deep": 1}]}],
    "texts": [*TEXTS, "'quo\"te", "two\nlines", "ü 日本", "long " * 60],
    "${of_a_key}": 1,
    "true": "a key",
}


def test_a_config_is_written_as_omegaconf_writes_it():
    assert description.config_text(PLAIN) == OmegaConf.to_yaml(OmegaConf.create(PLAIN))


LETTERS = st.text("ab1.e-_:#' {}[]%@ü", max_size=12)
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=4), NESTED, max_size=5))
def test_a_config_that_is_written_by_its_groups_is_that_which_is_written_as_a_whole(config):
    how = {"default_flow_style": False, "allow_unicode": True, "sort_keys": False}
    whole = yaml.dump(config, Dumper=description._Dumper, **how)
    assert description.config_text(config) == description.config_text(config) == whole


def test_values_that_are_equal_but_written_in_other_ways_are_kept_apart():
    shown = [
        description.config_text({"a": {"b": value}}) for value in (1, True, 1.0, 0.0, -0.0, 0, False, "1")
    ]
    assert [text.removeprefix("a:\n  b: ").rstrip() for text in shown] == [
        *("1", "true", "1.0", "0.0", "-0.0", "0", "false", "'1'")
    ]


def test_a_config_is_read_back_as_it_was():
    config = PLAIN | {"beyond the plane that libyaml prints": "\U0001f600"}
    assert OmegaConf.to_container(OmegaConf.create(description.config_text(config))) == config
