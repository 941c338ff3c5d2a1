"""The same configs and command lines, given to a plain Hydra program and to ours, compose to the same.

The plain program is a few lines of `@hydra.main` with the same conf/, in one process of its own for all.
What differs on purpose stands in docs/hydra.md: --help, intervals, keys that nothing reads, what a config may
not do (docs/security.md), and floats of range(), which are rounded.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from hydra.core.override_parser.overrides_parser import create_functions
from small import CONF, ENVIRONMENT, TRAIN

from sweepwise.cli.options import BASE
from sweepwise.sweep.local import launch

pytestmark = pytest.mark.slow  # plain Hydra composes each job from all its files: a minute

PLAIN = """
import contextlib, io, json, sys
import hydra
from sweepwise.cli.options import BASE
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

jobs = []

@hydra.main(config_path=CONF, config_name="train", **BASE)
def train(config):
    words = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    jobs.append([sorted(words), OmegaConf.to_container(config, resolve=True)])

answers = []
for arguments in json.load(sys.stdin):
    jobs.clear()
    GlobalHydra.instance().clear()
    several = "-m" in arguments
    sys.argv[1:] = [*arguments, *(["hydra/launcher=basic", "hydra/sweeper=basic"] if several else [])]
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            train()
        except SystemExit as ended:
            code = ended.code or 0
        except Exception:
            code = 1
    answers.append([code, list(jobs) if several else printed.getvalue()])
json.dump(answers, sys.stdout)
"""
# From 1.4 on, a defaults list overrides no option in a folder, and no job brings keys of the sweeper.
SMALL, WITH_PARAMS = ("vision/small", "schedule") if BASE else ("linear", "2024/abl2")
FILES = {
    "mine.yaml": """
        defaults:
          - train
          - optional nothing: here
          - override /model: SMALL
          - override /scheduler: cosine
          - _self_
        hydra:
          searchpath: [file://CONF]
        optimizer: {lr: 0.25}
        """,
    "model/mine.yaml": "defaults: [mlp, _self_]\nhidden: [7]\n",
    "model/net.yaml": "defaults: [act: tanh, _self_]\n_target_: sweepwise.model.mlp.mlp\nhidden: [5]\n",
    "model/absolute.yaml": "defaults: [/model/act@model: relu, optional other: none, _self_]\nhidden: [3]\n",
    "model/act/tanh.yaml": "activation: tanh\n",
    "model/act/relu.yaml": "activation: relu\n",
    "model/vision/small.yaml": "_target_: sweepwise.model.mlp.mlp\nhidden: [8]\n",
    "experiment/2024/abl1.yaml": "# @package _global_\noptimizer: {lr: 0.02}\n",
    "experiment/2024/abl2.yaml": "# @package _global_\noptimizer: {lr: 0.03}\n",
    "experiment/swept.yaml": """
        # @package _global_
        defaults:
          - override /optimizer: sgd
        hydra:
          mode: MULTIRUN
          sweeper: {params: {scheduler: 'constant,cosine', seed.value: 'range(2)'}}
        """,
}
MINE = "--config-dir=MINE"
SEARCH = "hydra.searchpath=[file://MINE]"
# What is printed; arguments are parted by two spaces.
SHOWN = [
    "--cfg job",
    "--cfg job  --resolve",
    "--cfg hydra",
    "--cfg all  -p optimizer",
    "--cfg job  -p optimizer.lr",
    "--version",
    "--info defaults",
    "--info defaults-tree",
    "--info searchpath",
    "--cfg job  model=linear  optimizer=sgd  regularizer=[l1,dropout]  early_stop=none",
    "--cfg job  +optimizer@second=sgd",
    "--cfg job  ~regularizer  ~model=mlp  ~experiment  ~optimizer.lr  ~seed.value=0",
    "--cfg job  +new.key=1  ++newer=2  ++optimizer.lr=3  +optimizer.x={a: [1, {b: null}]}",
    "--cfg job  name='a b, c'  +a=\"it's\"  +b='\"'  +c=a\\,b  +d=' '  +e='\\${name}'  +f=\\\\  +g=x:y/z%@",
    "--cfg job  +a=[1,[2,[3,x]],{y: z}]  +b={p: {q: [r]}, 3: 4, true: false}  +c=[]  +d={}",
    "--cfg job  +a=1e-3  +b=-.5  +c=inf  +d=-nan  +e=1_000  +f=007  +g=true  +h=null  +i=  +j=0x1f  +k=a b",
    "--cfg job  +a='1'  +b=\"true\"  +c='null'  optimizer.lr=${seed.value}  +d=x-${model.norm}  --resolve",
    "--cfg job  model={hidden: [3]}  ++model={more: {a: 1}}",
    f"{MINE}  model=mine  --cfg job",
    "-cd MINE  model=vision/small  --cfg job",
    f"{MINE}  model=net  --cfg job",
    f"{MINE}  model=net  model/act=relu  --cfg job",
    f"{MINE}  model=absolute  --cfg job",
    f"{MINE}  experiment=2024/abl1  --cfg job",
    f"{MINE}  experiment=[2024/abl1,schedule]  --cfg job",
    f"{SEARCH}  model=vision/small  +model/act@optimizer.act=tanh  --cfg job",
    "--config-path=MINE  --config-name=mine  --cfg job",
    "-cp MINE  -cn mine  model=mine  --cfg job",
    f"{MINE}  -cn mine  --info defaults",
]
# What is refused, by both.
REFUSED = [
    "-m  --cfg job",
    "--cfg job  --info defaults",
    "--resolve",
    "--cfg nothing",
    "--nothing",
    "--config-dir=MINE/nothing",
    "--config-name=nothing",
    "--config-path=MINE/nothing",
    "model=nothing",
    "model@model=linear",
    "model={more: 1}",
    "+a=x=y@=",
    "+a=ünï",
    "model=[nothing,mlp]",
    "model=null",
    "+model=linear",
    "++model=linear",
    "model@x=linear",
    "nothing=1",
    "~nothing",
    "~model=linear",
    "optimizer.nothing=1",
    "+optimizer.lr=1",
    "seed.value=0,1",
    "seed.value=range(3)",
    "name=[",
    "name",
    "-m  seed.value=int(",
    "-m  model=lineer,mlp",
    "-m  hydra.verbose=true,false",
]
# The functions of the grammar, in single runs and in sweeps.
CAST = [
    "--cfg job  +a=int(3.7)  +b=float(3)  +c=str(3)  +d=bool(1)  +e=str([1,2])  +f=int('5')  +g=str({a: b})",
    "--cfg job  +a=sort([3,1,2])  +b=sort([b,a],reverse=true)  +c=int([1.5,2.5])  +d=bool([0,1])",
]
SWEPT = {
    "choice": "-m  model=choice(mlp,linear)  seed.value=0",
    "range": "-m  seed.value=range(1,8,3)  trainer.threads=range(2)",
    "glob": "-m  model=glob(*,exclude=[c*,g*,l*,r*,t*])  init=glob([x*,z*])",
    "sort": "-m  seed.value=sort(3,1,2)  data.batch_size=sort(choice(8,4),reverse=true)  init=sort(zeros)",
    "tag": "-m  seed.value=tag(a,b,choice(1,2))  init=tag(fine,choice(xavier,zeros))",
    "shuffle": "-m  seed.value=shuffle(1,2,3)",
    "int": "-m  seed.value=int(choice(1.5,2.5))  data.batch_size=int(8.0),16",
    "float": "-m  optimizer.lr=float(1,2)",
    "str": "-m  name=str(1,2)",
    "bool": "-m  model.bias=bool(choice(0,1))",
    "json_str": "-m  name=json_str(x),y",
    "extend_list": "-m  model.hidden=extend_list(8)",
}
SWEEPS = [
    "-m  model=mlp,linear  seed.value=0,1",
    "-m  model.hidden=[8],[8,8],[]  +model.extra={a: 1},{a: [2]}",
    "-m  regularizer=[l1],[l2,dropout],none",
    "-m  model.activation='a,b',c  +optimizer.note='x, y',\"z\"",
    "-m  optimizer.lr=0.1,1e-3,null,${seed.value}  +seed.x='1',1",
    "-m  optimizer.lr=0.5  seed.value=3",
    f"{MINE}  -m  model=vision/small,mine,net",
    f"{MINE}  -m  model=net  model/act=glob(*)",
    f"{MINE}  -m  experiment=2024/abl1,{WITH_PARAMS}",
    f"{MINE}  -m  experiment=swept  seed.value=5",
    f"-m  {SEARCH}  model=vision/small,linear  +optimizer@optimizer.inner=sgd,adam",
    "-cp MINE  -cn mine  -m  optimizer.lr=1,2",
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Takes back what Hydra makes of logging, here and before: it prints to where a command printed."""
    handlers, level = [one for one in logging.root.handlers if type(one) is not logging.StreamHandler], 30
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """A folder of configs of one's own."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(
            dedent(text).strip().replace("CONF", str(CONF)).replace("SMALL", SMALL) + "\n"
        )
    return folder


@pytest.fixture(scope="module")
def plain(mine, tmp_path_factory) -> dict[str, list]:
    """What a plain Hydra program answers to each command: its exit code, and its jobs or what it prints."""
    place = tmp_path_factory.mktemp("place")
    (place / "train.py").write_text(PLAIN.replace("CONF", repr(str(CONF))))
    commands = [*SHOWN, *REFUSED, *CAST, *known_functions().values(), *SWEEPS]
    done = subprocess.run(
        [sys.executable, "train.py"],
        input=json.dumps([words(command, mine) for command in commands]),
        capture_output=True,
        text=True,
        cwd=place,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


def words(command: str, mine: Path) -> list[str]:
    """The arguments of a command, which two spaces part; a flag and its value are parted by one."""
    parts = command.replace("MINE", str(mine)).split("  ")
    return [word for part in parts for word in (part.split(" ") if part.startswith("-") else [part])]


def known_functions() -> dict[str, str]:
    """A sweep for each function of this version's grammar but `interval`."""
    return {name: SWEPT[name] for name in create_functions().functions if name != "interval"}


@pytest.mark.parametrize("command", [*SHOWN, *CAST])
def test_what_is_shown_is_what_a_plain_program_shows(command, plain, mine, as_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, complaint = as_command(TRAIN, *words(command, mine))
    assert (code, complaint) == (0, "")
    assert plain[command][0] == 0
    assert comparable(printed) == comparable(plain[command][1])
    assert not list(tmp_path.iterdir())


def comparable(text: str) -> list[str]:
    """Without what differs between two programs: where each was started, and what is said of logging."""
    return [
        line for line in text.splitlines() if not line.strip().startswith(("cwd:", "dir: ", "output_dir:"))
    ]


@pytest.mark.parametrize("command", REFUSED)
def test_what_a_plain_program_refuses_is_refused_in_lines(
    command, plain, mine, as_command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, printed, complaint = as_command(TRAIN, *words(command, mine))
    assert (code, printed) == (2, "") and plain[command][0] != 0
    assert "Traceback" not in complaint and "error: " in complaint
    assert not list(tmp_path.iterdir())


@pytest.fixture
def jobs(monkeypatch, as_command, tmp_path, mine):
    """The runs that a sweep of ours would train."""
    monkeypatch.chdir(tmp_path)
    taken = []

    def train(requests, settings, **_):
        taken.extend(requests)
        return [(request, 0.0) for request in requests]

    monkeypatch.setattr(launch, "train", train)

    def call(command: str) -> list:
        code, _, complaint = as_command(TRAIN, *words(command, mine))
        assert (code, complaint) == (0, "")
        return [[sorted(request.overrides), request.config] for request in taken]

    return call


@pytest.mark.parametrize("command", [*known_functions().values(), *SWEEPS])
def test_a_sweep_has_the_jobs_of_a_plain_program(command, plain, jobs):
    code, expected = plain[command]
    found = jobs(command)
    if "shuffle" in command:
        found, expected = sorted(found, key=str), sorted(expected, key=str)
    assert code == 0 and len(expected) > 0
    assert json.loads(json.dumps(found)) == expected


def test_an_interval_is_refused(as_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, complaint = as_command(TRAIN, "-m", "seed.value=interval(0,3)")
    refused = "error: seed.value=interval(0,3): a grid has lists, no intervals"
    assert code == 2 and complaint.startswith(refused)
