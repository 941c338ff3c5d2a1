"""`_search_` in a yaml: sensible ranges, which are no part of any run."""

import re
import shutil
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from small import CONF, TRAIN

from sweepwise.cli import composed
from sweepwise.cli.help import page
from sweepwise.cli.options import of_folder, options_of, values_of
from sweepwise.cli.priors import of_option, prior_of
from sweepwise.config.drawn import SEARCH
from sweepwise.config.groups import GROUPS
from sweepwise.errors import UsageError
from sweepwise.run import from_config

CONFS = of_folder(CONF)
SAID = [
    (group, option, key, text)
    for group in GROUPS
    for option in options_of(CONFS, group)
    for key, text in of_option(CONFS, group, option).items()
]


def ends(text: str) -> list[str]:
    """The ends of an interval, or all values of a list, read in another way than ours."""
    inner = re.fullmatch(r"(?:tag\((?:\w+,)+)?(?:interval|choice)\((.*?)\)+", text)
    return re.split(r",(?![^\[]*\])", inner[1] if inner else text)


def end(text: str, which: int) -> str:
    value = ends(text)[which]
    return value if not re.search(r"\bint,", text) else str(int(float(value)))


def test_most_options_that_can_be_tuned_say_a_range():
    groups = {group for group, *_ in SAID}
    assert (
        groups >= {"optimizer", "scheduler", "regularizer", "init", "model", "early_stop"} and len(SAID) > 80
    )


@pytest.mark.parametrize("group", sorted({group for group, *_ in SAID}))
def test_a_range_is_of_a_key_that_takes_its_ends(group):
    for option in {option for its, option, *_ in SAID if its == group}:
        above = f"{group}.{option}" if group == "regularizer" else group
        ranges = of_option(CONFS, group, option)
        assert ranges.keys() <= values_of(CONFS, group, option).keys()
        for which in (0, -1):
            words = [f"{above}.{key}={end(text, which)}" for key, text in ranges.items()]
            from_config.bind_all(composed([f"{group}={option}", *words], CONF).config)


def test_ranges_of_numbers_hold_the_default():
    for group, option, key, text in SAID:
        default = values_of(CONFS, group, option)[key]
        if "interval" in text and isinstance(default, float) and default:
            low, high = map(float, ends(text))
            assert low <= default <= high, (group, option, key)


def test_no_run_knows_of_ranges(tmp_path):
    plain = tmp_path / "conf"
    shutil.copytree(CONF, plain)
    for path in plain.rglob("*.yaml"):
        text = path.read_text()
        path.write_text(re.sub(rf"^{SEARCH}:.*\n(?: .*\n)*", "", text, flags=re.M))
    assert not [path for path in plain.rglob("*.yaml") if SEARCH in path.read_text()]
    for overrides in ([], ["optimizer=sgd", "scheduler=step", "regularizer=[l1,dropout]", "init=xavier"]):
        one, other = composed(overrides, CONF), composed(overrides, plain)
        assert one == other and one.id == other.id and SEARCH not in str(one.config)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            assert SEARCH not in OmegaConf.to_yaml(compose("train", overrides))


@pytest.mark.slow
def test_hydra_alone_does_not_see_ranges():
    words = [
        sys.executable,
        "-c",
        f"""
from hydra import compose, initialize_config_dir
with initialize_config_dir({str(CONF)!r}, version_base="1.3"):
    print(compose("train", ["scheduler=step"]))
""",
    ]
    assert SEARCH not in subprocess.run(words, capture_output=True, text=True, check=True).stdout
    command = [sys.executable, str(TRAIN), "--cfg", "job"]
    assert SEARCH not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_help_of_an_option_shows_them_and_help_of_all_does_not():
    assert "log: [1.0e-4, 1.0e-1]" in page(CONFS, ["optimizer=adam"]) and SEARCH not in page(CONFS)


def test_options_that_differ_have_ranges_of_their_own():
    both = prior_of(CONFS, "optimizer.lr", {"optimizer": ["adam", "sgd"]})
    assert both.group == "optimizer" and set(both.ranges) == {"adam", "sgd"}
    one = prior_of(CONFS, "optimizer.lr", {"optimizer": ["adam", "adamw"]})
    assert one.group == "" and list(one.ranges.values()) == ["tag(log,interval(0.0001,0.1))"]


def test_a_yaml_of_ones_own_says_them_and_has_those_that_it_is_made_from(tmp_path):
    shutil.copytree(CONF, tmp_path / "conf")
    mine = tmp_path / "conf" / "optimizer" / "mine.yaml"
    mine.write_text("defaults: [sgd]\nlr: 0.5\n_search_:\n  lr: {log: [0.1, 1]}\n")
    confs = of_folder(tmp_path / "conf")
    assert of_option(confs, "optimizer", "mine") == {
        **of_option(CONFS, "optimizer", "sgd"),
        "lr": "tag(log,interval(0.1,1))",
    }
    experiment = tmp_path / "conf" / "experiment" / "mine.yaml"
    experiment.write_text("# @package _global_\nname: mine\n_search_:\n  optimizer.lr: {log: [2, 3]}\n")
    found = prior_of(
        of_folder(tmp_path / "conf"), "optimizer.lr", {"optimizer": ["sgd"], "experiment": ["mine"]}
    )
    assert found.ranges == {"": "tag(log,interval(2,3))"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "lr: {lgo: [1, 2]}",
            "optimizer/mine: _search_.lr: {'lgo': [1, 2]}: unknown word 'lgo'; did you mean 'log'?",
        ),
        ("[1, 2]", "optimizer/mine: _search_ must say a range for each key"),
    ],
)
def test_what_is_no_range_is_refused(tmp_path, said, told):
    shutil.copytree(CONF, tmp_path / "conf")
    mine = tmp_path / "conf" / "optimizer" / "mine.yaml"
    mine.write_text(f"_target_: torch.optim.SGD\nlr: 1\n_search_:\n  {said}\n")
    with pytest.raises(UsageError) as refused:
        of_option(of_folder(tmp_path / "conf"), "optimizer", "mine")
    assert str(refused.value).startswith(told)


def test_a_key_without_a_range_is_refused():
    with pytest.raises(UsageError) as refused:
        prior_of(CONFS, "optimizer.lrr", {"optimizer": ["adam"]})
    assert "did you mean 'optimizer.lr'?" in str(refused.value) and "optimizer.lrr='interval" in str(
        refused.value
    )
