"""The result of a guided search as an experiment: Hydra makes the same of it as of the overrides."""

import copy
import datetime
import json
import shutil
from pathlib import Path

import accounts
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import ConfigTypeError
from small import CONF

from sweepwise.cli import BASE, composed, hooks, said
from sweepwise.cli.options import of_folder
from sweepwise.errors import UsageError, hydra_word
from sweepwise.search.guided.experiment_keys import Keys, keys_of
from sweepwise.search.guided.experiment_yaml import MARK, experiment, path_of, refuse_foreign, write

WHEN = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
COMMAND = "python train.py -m hydra/sweeper=guided data=wine"
NAME = "found"
PARSER = OverridesParser.create()


@pytest.fixture(scope="module")
def conf(tmp_path_factory) -> Path:
    """A copy of conf/ with experiments that are made from others, and one that is written here."""
    hooks.install()
    folder = tmp_path_factory.mktemp("confs") / "conf"
    shutil.copytree(CONF, folder)
    own = folder / "experiment"
    (own / "inner.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /init: lsuv\n  - override /optimizer: sgd\n"
        "trainer:\n  max_epochs: 3\noptimizer:\n  lr: 0.5\nseed:\n  value: 7\n  deterministic: true\n"
    )
    (own / "outer.yaml").write_text(
        "# @package _global_\ndefaults:\n  - inner\n  - override /init: xavier\noptimizer:\n  lr: 0.25\n"
    )
    (own / "first.yaml").write_text(
        "# @package _global_\ndefaults:\n  - _self_\n  - inner\noptimizer:\n  lr: 0.25\n"
    )
    return folder


def text_of(pairs, account=None, command=COMMAND) -> str:
    return experiment(account or accounts.account(), pairs, NAME, command=command, when=WHEN)


def parsed(overrides):
    return [(text.partition("=")[0], PARSER.parse_override(text).value()) for text in overrides]


def hydras(conf: Path, *overrides: str) -> tuple[dict, dict]:
    """What Hydra composes: the values as they are written, and the choices; without where it goes."""
    with initialize_config_dir(str(conf), **BASE):
        config = compose("train", list(overrides), return_hydra_config=True)
    plain = OmegaConf.to_container(config, resolve=False)
    choices = {
        key: value for key, value in plain.pop("hydra")["runtime"]["choices"].items() if key != "experiment"
    }
    del plain["name"]
    plain["seed"] = {key: value for key, value in plain["seed"].items() if key != "value"}
    return plain, choices


CASES = {
    "what stages decide": accounts.FOUND,
    "with a base": ("data=wine", "trainer.device=cpu", "model.hidden=[8,8]", *accounts.FOUND),
    "values of all kinds": (
        "optimizer.lr=1e-5",
        "optimizer.betas=[0.8,1e-3]",
        "model.hidden=[]",
        "early_stop.stopping_threshold=null",
        "trainer.device='cpu'",
        "+data.a='1e-3'",
        "+data.b='null'",
        "+data.c=inf",
        "+data.d={x:{y:[1,{z:on}]},2:true}",
        "++data.e=\"it's 1:30:00, \\${not} # a 'reference'\"",
        "+data.f=${trainer.max_epochs}",
        "+data.g=",
        "+data.h='é 😀 \n ---'",
    ),
    "several of a key": ("init=zeros", "optimizer.lr=1", "init=lsuv", "optimizer.lr=2"),
    "a dict for a group": ("optimizer=sgd", "optimizer={lr:0.5,momentum:0.8}", "optimizer.momentum=0.7"),
    "many regularizers": (
        "regularizer=[l2,dropout,label_smoothing]",
        "regularizer.l2.coefficient=1e-3",
        "regularizer.dropout.p=0.3",
        "regularizer.label_smoothing.smoothing=0.05",
    ),
    "no regularizer": ("regularizer=[]",),
    "an option that is made from another": ("seed=deterministic", "monitor=none", "checkpoint=end"),
    "an experiment": (
        "experiment=regularization",
        "regularizer=[l2,dropout]",
        "regularizer.l2.coefficient=1e-3",
    ),
    "an experiment of another": ("experiment=outer", "optimizer.momentum=0.5"),
    "an experiment that is overridden by another": ("experiment=first",),
    "two experiments": ("experiment=[inner,schedule]", "scheduler=cosine"),
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_hydra_composes_the_same(conf, overrides):
    written = text_of(said.pairs(of_folder(conf), overrides))
    write(path_of(conf / "experiment", NAME), written)
    assert hydras(conf, f"experiment={NAME}") == hydras(conf, *overrides)


def test_it_is_the_same_run_as_that_of_the_overrides(conf):
    write(path_of(conf / "experiment", NAME), text_of(parsed(accounts.FOUND)))
    found, wanted = composed([f"experiment={NAME}"], conf), composed(accounts.FOUND, conf)
    assert found.id == wanted.id
    assert found.config["name"] == NAME


def test_a_command_still_overrides_it(conf):
    write(path_of(conf / "experiment", NAME), text_of(parsed(accounts.FOUND)))
    found, choices = hydras(conf, f"experiment={NAME}", "init=zeros", "optimizer.lr=0.5")
    assert (choices["init"], found["optimizer"]["lr"], found["early_stop"]["patience"]) == ("zeros", 0.5, 5)


def test_one_that_was_found_before_may_be_the_base(conf):
    before = ("init=lsuv", "optimizer.lr=0.5")
    write(path_of(conf / "experiment", "before"), text_of(parsed(before)))
    pairs = said.pairs(of_folder(conf), ("experiment=before", "scheduler=cosine"))
    write(path_of(conf / "experiment", NAME), text_of(pairs))
    assert hydras(conf, f"experiment={NAME}") == hydras(conf, *before, "scheduler=cosine")


# --- any values, as OmegaConf merges them --------------------------------------------------------------

SAFE = st.characters(blacklist_categories=("Cs",))
SCALARS = st.one_of(
    st.none().map(lambda _: "null"),
    st.booleans().map(lambda value: str(value).lower()),
    st.integers().map(str),
    st.floats(allow_nan=False).map(repr),
    st.text(SAFE).map(hydra_word),
    st.sampled_from(
        ["1e-3", "'1e-3'", "'1_000'", "'0x1'", "'.5'", "on", "'~'", "'=x'", "x:y", "'1:30'", "-"]
    ),
    st.sampled_from(
        ["'${a.b}'", "'\\${a}'", "''", "' '", "'- a'", "'a: b'", "'# a'", "'!!x'", "'&a'", "'*a'"]
    ),
)
NAMES = st.sampled_from(["a", "b", "c_d"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(st.sampled_from(["a", "b", "1", "true", "a b"]), inner, max_size=3).map(
            lambda items: f"{{{','.join(f'{key}:{value}' for key, value in items.items())}}}"
        ),
    ),
    max_leaves=6,
)
KEYS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
BASE_CONFIG = {"a": {"a": {"a": 1, "b": [1, 2]}, "b": "x"}, "b": {"c_d": None}, "c_d": 5}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES).map(lambda pair: f"++{pair[0]}={pair[1]}"), min_size=1, max_size=6))
def test_values_are_merged_as_overrides_are(texts):
    overrides = PARSER.parse_overrides(texts)
    theirs = OmegaConf.create(copy.deepcopy(BASE_CONFIG))
    try:
        ConfigLoaderImpl._apply_overrides_to_config(overrides, theirs)
    except (HydraException, ValueError, TypeError):
        reject()  # such as a list in the place of a dict
    try:
        text = text_of([(one.input_line.partition("=")[0], one.value()) for one in overrides])
    except UsageError as error:
        assert all("is set twice" in fault for fault in error.faults)
        return
    try:
        ours = OmegaConf.merge(OmegaConf.create(copy.deepcopy(BASE_CONFIG)), OmegaConf.create(text))
    except ConfigTypeError:
        reject()  # a dict that was set to one value and then to a list: Hydra says so
    del ours["name"]
    assert plain(ours) == plain(theirs)


def plain(config) -> str:
    """A config with the types of its values; in a text, as NaN is no equal of itself."""
    return repr(sorted_keys(OmegaConf.to_container(config, resolve=False)))


def sorted_keys(value):
    if isinstance(value, dict):
        return sorted(
            ((repr(key), sorted_keys(inner)) for key, inner in value.items()), key=lambda one: one[0]
        )
    return [sorted_keys(one) for one in value] if isinstance(value, list) else value


# --- what is left out, what is refused -----------------------------------------------------------------


def test_only_what_a_run_is_stands_in_it():
    left_out = (
        *("name=a", "output_dir=b", "seed.value=3", "seed.data=1", "fresh=true", "progress=false"),
        *("report=false", "mean_runs=false", "accept_changes=true", "hydra/launcher=slurm", "hydra.mode=RUN"),
        *("hydra.launcher.wait=true", "seed={value:3}"),
    )
    assert keys_of(parsed(left_out)) == Keys()
    kept = keys_of(parsed((*left_out, "seed.deterministic=true", "seed=deterministic")))
    assert kept == Keys({"seed": "deterministic"}, {}, {"seed": {"deterministic": True}})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("~optimizer.lr", "cannot remove a key"),
        ("model.hidden.0=3", "cannot set one item of a list"),
        ("model.hidden[0]=3", "cannot set one item of a list"),
    ],
)
def test_what_no_yaml_can_say_is_refused_with_a_way_out(override, said):
    key, _, value = override.partition("=")
    with pytest.raises(UsageError, match=said) as caught:
        keys_of([("init", "zeros"), (key, value)])
    assert caught.value.faults[0].startswith(f"{key}: ")
    assert "hydra.sweeper.save" in caught.value.faults[0]


def test_one_value_in_the_place_of_several_is_refused():
    with pytest.raises(UsageError, match=r"^\+a\.b: a is set twice"):
        keys_of([("+a", 1), ("+a.b", 2)])


def test_groups_are_chosen_added_or_removed():
    pairs = [("model/act", "relu"), ("+own@data.own", "x"), ("~monitor", None), ("model", 50)]
    assert keys_of(pairs) == Keys(
        {"model/act": "relu", "monitor": None, "model": 50},
        {},
        {"own@data": {"own": "x"}},
    )
    found = keys_of(pairs, groups=("model", "monitor", "own"))
    assert found == Keys({"model/act": "relu", "monitor": None, "model": 50}, {"own@data.own": "x"}, {})
    assert yaml.safe_load(text_of([("+own/a@data.own", "x"), ("model", 50), ("~monitor", None)]))[
        "defaults"
    ] == [
        {"/own/a@data.own": "x"},
        {"override /model": "50"},
        {"override /monitor": None},
    ]


# --- the file ------------------------------------------------------------------------------------------


def test_it_says_where_it_comes_from(tmp_path):
    first, second, third, fourth, *_ = text_of(parsed(accounts.FOUND)).splitlines()
    assert first == "# @package _global_"
    assert second.startswith("# Found by hydra/sweeper=guided on 2026-01-02: val/loss 0.38")
    assert "the default 0.45" in second
    assert third == f"# by: {COMMAND}"
    assert fourth.startswith("# python train.py experiment=found ")
    assert "val/loss not compared with the default" in text_of([], accounts.several()["no final stage"])


@pytest.mark.parametrize(
    "harm", ["a\nb: 1", "a\r\nb: 1", "a\u2028b: 1", "a\x85b: 1", "a\x00\x1b\udce9", "# @package x"]
)
def test_nothing_of_a_command_is_read_as_yaml(harm):
    text = text_of([("init", "zeros")], accounts.account(metric=harm), harm)
    assert yaml.safe_load(text) == {"defaults": [{"override /init": "zeros"}], "name": NAME}
    assert text.encode().decode().count("\n") == 7


def test_a_file_of_another_origin_stays(tmp_path):
    path = tmp_path / "mine.yaml"
    for content in ("trainer:\n  max_epochs: 3\n", "", f"a: 1\nb: 2\n{MARK}\n"):
        path.write_text(content)
        with pytest.raises(UsageError, match=r"hydra\.sweeper\.save=OTHER"):
            write(path, text_of([]))
        assert path.read_text() == content


def test_one_that_a_search_wrote_is_replaced(tmp_path):
    path = path_of(tmp_path / "conf" / "experiment", NAME)
    refuse_foreign(path)
    write(path, text_of([("init", "zeros")]))
    refuse_foreign(path)
    write(path, text_of([("init", "lsuv")]))
    assert yaml.safe_load(path.read_text())["defaults"] == [{"override /init": "lsuv"}]
    assert [one.name for one in path.parent.iterdir()] == [f"{NAME}.yaml"]


def test_a_folder_or_a_link_to_nothing_is_in_the_way(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nothing")
    for name in ("folder", "link"):
        with pytest.raises(UsageError, match=f"hydra.sweeper.save={name}: "):
            refuse_foreign(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("name", ["a", "wine-2_b", "A" * 100])
def test_a_name_is_that_of_a_file(name):
    path = path_of(Path("conf/experiment"), name)
    assert path == Path(f"conf/experiment/{name}.yaml")
    assert PARSER.parse_override(f"experiment={name}").value() == name


@pytest.mark.parametrize(
    "name", ["", "../a", "a/b", "a.b", "null", "True", "nan", "1e3", "10", "a b", "a\n", "é", "A" * 101]
)
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match=r"hydra\.sweeper\.save="):
        path_of(Path("conf/experiment"), name)


def test_an_experiment_must_be_given_as_what_it_sets():
    with pytest.raises(ValueError, match="experiment=seed: must be given as what it sets"):
        keys_of([("experiment", "seed")])


def test_the_example_of_pairs_shows_what_happens(conf):
    pairs = said.pairs(of_folder(conf), ["regularizer=[l1,l2]", "+optimizer.eps=1e-3", "init='kaiming'"])
    assert (
        json.dumps(pairs) == '[["regularizer", ["l1", "l2"]], ["+optimizer.eps", 0.001], ["init", "kaiming"]]'
    )
