"""At Hydra's edge: configs of one's own, help and messages for them, resolvers, environment variables."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from small import CONF, ENVIRONMENT, TINY, TRAIN

from sweepwise import cli
from sweepwise.cli.environment import with_numbers
from sweepwise.config import allowlist
from sweepwise.errors import UsageError

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_steps=2", "progress=false"]
FILES = {
    "mine.yaml": "defaults: [train, _self_]\nhydra: {searchpath: ['file://CONF']}\noptimizer: {lr: 0.25}\n",
    "model/net.yaml": "defaults: [act: tanh, _self_]\n_target_: sweepwise.model.mlp.mlp\nhidden: [5]\n",
    "model/act/tanh.yaml": "activation: tanh\n",
    "model/vision/small.yaml": "# Small.\n_target_: sweepwise.model.mlp.mlp\nhidden: [8]\n",
    "model/broken.yaml": "hidden: [8\n",
    "model/crowded.yaml": "defaults: [{mlp: a, act: b}]\n",
    "experiment/2024/abl1.yaml": "# @package _global_\n# Which rate?\noptimizer: {lr: 0.02}\n",
}

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder of configs of one's own."""
    folder = tmp_path / "configs of mine"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("CONF", str(CONF)))
    return folder


@pytest.fixture
def refused(as_command, empty_folder):
    """What a command is told that is refused."""

    def call(*arguments: str) -> str:
        before = sorted(empty_folder.iterdir())
        code, printed, complaint = as_command(TRAIN, *arguments)
        assert (code, printed) == (2, "") and "Traceback" not in complaint
        assert sorted(empty_folder.iterdir()) == before
        return complaint

    return call


# --- configs of one's own


@pytest.mark.parametrize("choice", ["model=vision/small", "experiment=2024/abl1", "-cn=mine"])
def test_a_config_in_a_folder_of_ones_own_trains(choice, mine, as_command, empty_folder):
    code, printed, complaint = as_command(TRAIN, *SHORT, f"--config-dir={mine}", choice)
    assert (code, complaint) == (0, "") and "finished" in printed
    assert len(list(empty_folder.glob("outputs/main/*/record.json"))) == 1


def test_help_shows_what_lies_there(mine, as_command):
    _, page, _ = as_command(TRAIN, f"--config-dir={mine}", "--help")
    model = page[page.index("\nmodel:") : page.index("\ninit:")]
    assert "vision/small" in model and "Small." in model and "hidden=[5]" in model
    assert "act/tanh" not in model  # no model by itself
    assert "2024/abl1" in page and "Which rate?" in page
    code, shown, _ = as_command(TRAIN, "--help", "model=vision/small", "-cd", str(mine))
    assert (code, shown) == (0, "model=vision/small\n  # Small.\n  hidden: [8]\n")
    assert as_command(TRAIN, "--help", "model/act", "-cd", str(mine))[1].startswith(
        "model/act:\n\nmodel/act=tanh"
    )


TOLD = {
    "model=vision/smal": "model=vision/smal: no such option; did you mean 'vision/small'?",
    "model=net model.widht=3": "model.widht=3: model=net has no 'widht'; there is act, hidden",
    "model=net model/act=tanj": "model/act=tanj: no such option; did you mean 'tanh'?",
    "model/act=tanh": "model/act=tanh: no defaults list has model/act; a + in front adds it: +model/act=tanh",
    "model=broken": "model/broken: cannot be read: ",
    "model=crowded": "Too many keys in default item",
    "experiment=2024/abl": "experiment=2024/abl: no such option; did you mean '2024/abl1'?",
    "-cn=min": "Cannot find primary config 'min'. Check that it's in your config search path; did you",
}


@pytest.mark.parametrize("words", TOLD)
def test_a_fault_in_it_is_told_in_a_line(words, mine, refused):
    complaint = refused("-cd", str(mine), *words.split())
    assert TOLD[words] in complaint and complaint.count("\n") == 1


# --- what is meant

MEANT = {
    "epochs=10": "did you mean trainer.max_epochs=10?",
    "lr=0.1": "did you mean optimizer.lr=0.1?",
    "learning_rate=0.1": "did you mean optimizer.lr=0.1?",
    "patience=3": "did you mean early_stop.patience=3?",
    "batch_size=8": "did you mean data.batch_size=8?",
    "bs=8": "did you mean data.batch_size=8?",
    "momentum=0.5": "write optimizer=sgd optimizer.momentum=0.5",
    "seed=3": "write seed.value=3",
    "+epochs=10": "epochs: unknown; did you mean trainer.max_epochs?",
    "+value=1": "value: unknown; did you mean seed.value?",
    "seed.value=0,1": "seed.value=0,1: several values are a sweep; add -m to the command",
    "seed.value=range(3)": "seed.value=range(3): several values are a sweep; add -m to the command",
    "+experiment=schedule": "+experiment=schedule: a group is chosen without the +: experiment=schedule",
    "optimizer.lr=${oc.decode:${oc.env:LR}}": "need quotes: 'optimizer.lr=\"${oc.decode:${oc.env:LR}}\"'",
    "hydra.searchpath=[file:///nothing]": "hydra.searchpath: file:///nothing does not exist; write pkg://PACKAGE",
    "-m --cfg job": "-m --cfg: only one of these at a time; leave all but one out",
}


@pytest.mark.parametrize("words", MEANT)
def test_what_was_meant_is_named(words, refused):
    complaint = refused(*words.split())
    assert MEANT[words] in complaint and complaint.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["init=xavier", "hydra/launcher=basic", "+x=1"]])
def test_what_hydra_shows_of_itself_is_shown(words, as_command, empty_folder):
    code, printed, complaint = as_command(TRAIN, "--hydra-help", *words)
    assert (code, complaint) == (0, "") and "--config-dir,-cd" in printed and "hydra/launcher: " in printed
    assert not list(empty_folder.iterdir())


# --- environment variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.02", 0.02),
        ("1e-3", 1e-3),
        ("3", 3),
        ("true", True),
        ("-1", -1),
        ("a", "a"),
        ("[1]", "[1]"),
        ("1,2", "1,2"),
    ],
)
@pytest.mark.parametrize("key", ["x", "y"])
def test_a_number_in_an_environment_variable_is_a_number(text, value, key):
    written = {"x": "${oc.env:SIZE}", "y": "${x}", "z": "a${oc.env:SIZE}", "n": [{"m": "${y}"}]}
    resolved = {"x": text, "y": text, "z": f"a{text}", "n": [{"m": text}], "t": "5"}
    found = with_numbers(resolved, {**written, "t": "5"}, written)
    assert found == {"x": value, "y": value, "z": f"a{text}", "n": [{"m": value}], "t": "5"}
    assert type(found[key]) is type(value)


def test_it_is_one_in_a_run_and_decoded_otherwise(monkeypatch):
    monkeypatch.setenv("LR", "0.02")
    monkeypatch.setenv("HIDDEN", "[64,32]")
    words = ["optimizer.lr=${oc.env:LR}", 'model.hidden="${oc.decode:${oc.env:HIDDEN}}"']
    config = cli.composed(words, CONF).config
    assert config["optimizer"]["lr"] == 0.02 and config["model"]["hidden"] == [64, 32]
    assert cli.composed(["optimizer.lr=${oc.env:NONE,0.5}"], CONF).config["optimizer"]["lr"] == 0.5


# --- resolvers

PACKAGE = """
from omegaconf import OmegaConf
OmegaConf.register_new_resolver("NAME", lambda number: 2 * number)
"""


@pytest.fixture
def package(tmp_path, monkeypatch, request) -> str:
    """A package that registers a resolver when it is imported; its name is the resolver's."""
    name = f"doubles{abs(hash(request.node.name)) % 10**6}"
    (tmp_path / f"{name}.py").write_text(dedent(PACKAGE).replace("NAME", name))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_resolver_of_a_package_that_code_names_is_found(package, monkeypatch):
    words = [f"optimizer.lr=${{{package}:0.01}}"]
    with pytest.raises(UsageError, match=f"type {package}; .*packages="):
        cli.composed(words, CONF)
    assert package not in sys.modules
    monkeypatch.setattr(allowlist, "_allowed", {package})
    assert cli.composed(words, CONF).config["optimizer"]["lr"] == 0.02


@pytest.mark.parametrize("several", [[], ["-m", "seed.value=0,1"]])
def test_it_is_found_by_a_command(several, package, as_command, empty_folder):
    script = empty_folder / "train.py"
    script.write_text(Path(TRAIN).read_text().replace("main(train)", f"main(train, packages=['{package}'])"))
    (empty_folder / "conf").symlink_to(CONF)
    code, _, complaint = as_command(str(script), *SHORT, *several, f"optimizer.lr=${{{package}:0.01}}")
    assert (code, complaint) == (0, "")
    configs = list(empty_folder.glob("outputs/main/*/config.yaml"))
    assert len(configs) == len(several or [1]) and all("lr: 0.02" in path.read_text() for path in configs)


# --- time


@pytest.mark.parametrize(
    "words",
    ["init=xavir", "-m init=xavir,zeros", "-m seed.value=interval(0,1)", "--help model=mlp", "-m name=../x"],
)
def test_what_is_answered_at_once_loads_no_torch(words):
    told = (
        "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print('torch' in sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, "-c", told, TRAIN, *words.split()], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.stdout.splitlines()[-1] == "False" and "Traceback" not in done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3  # 0.5 s where nothing else runs
    assert os.listdir() == []
