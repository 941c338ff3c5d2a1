"""What a config can make a run build: targets by name, before anything is imported."""

import inspect
import re
import sys
from pathlib import Path

import pytest
import torch
from small import CONF, ROOT, option_of

from sweepwise import cli
from sweepwise.config import allowlist
from sweepwise.config.allowlist import find
from sweepwise.config.groups import GROUPS
from sweepwise.config.schema import bind
from sweepwise.errors import UsageError
from sweepwise.run import bind_all

HOSTILE = [
    *("torch.load", "torch.save", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
    *("torch.utils.cpp_extension.load", "torch.ops.load_library", "torch.classes.load_library"),
    *("torch.serialization.load", "torch.storage._load_from_bytes", "torch.distributed.rpc.rpc_sync"),
    *("open", "io.open", "builtins.open", "builtins.eval", "builtins.exec", "builtins.__import__", "eval"),
    *(
        "builtins.getattr",
        "builtins.compile",
        "os.system",
        "posix.system",
        "os.popen",
        "os.execv",
        "os.remove",
    ),
    *("pickle.load", "pickle.loads", "_pickle.loads", "marshal.loads", "shelve.open", "joblib.load"),
    *("numpy.load", "numpy.fromfile", "numpy.lib.npyio.load", "numpy.f2py.compile", "pandas.read_pickle"),
    *("urllib.request.urlopen", "urllib.request.urlretrieve", "socket.socket", "http.client.HTTPConnection"),
    *("subprocess.Popen", "subprocess.run", "_posixsubprocess.fork_exec", "pty.spawn", "asyncio.run"),
    *("importlib.import_module", "importlib.reload", "imp.load_source", "runpy.run_path", "runpy.run_module"),
    *("logging.config.dictConfig", "logging.config.fileConfig", "logging.FileHandler"),
    *(
        "logging.handlers.SocketHandler",
        "hydra.utils.instantiate",
        "hydra.utils.call",
        "hydra.utils.get_method",
    ),
    *("hydra.utils.get_class", "hydra._internal.utils._locate", "omegaconf.OmegaConf.load"),
    *("omegaconf.OmegaConf.register_new_resolver", "yaml.load", "yaml.unsafe_load"),
    *("shutil.rmtree", "shutil.move", "pathlib.Path", "pathlib.Path.unlink", "tempfile.mkdtemp"),
    *(
        "ctypes.CDLL",
        "ctypes.cdll.LoadLibrary",
        "multiprocessing.Process",
        "threading.Thread",
        "signal.signal",
    ),
    *(
        "functools.partial",
        "functools.reduce",
        "operator.attrgetter",
        "operator.methodcaller",
        "types.FunctionType",
    ),
    *("code.interact", "codeop.compile_command", "pdb.run", "pip.main", "sys.exit", "atexit.register"),
    # our own machinery
    *(
        "sweepwise.cli.main",
        "sweepwise.cli.script",
        "sweepwise.store.record.claim",
        "sweepwise.store.record.write_aside",
    ),
    *(
        "sweepwise.tools.scripting.run",
        "sweepwise.run.train",
        "sweepwise.library.fit",
        "sweepwise.system.atomic.write_atomic",
    ),
    *(
        "sweepwise.config.allowlist.allow",
        "sweepwise.config.allowlist.find",
        "sweepwise.cli.guard.install",
        "sweepwise.config.schema.bind",
    ),
    # through what allowed modules have imported, or are made of
    *(
        "torch.nn.modules.module.torch.load",
        "torch.nn.functional.torch.load",
        "torch.nn.functional.warnings.warn",
    ),
    *("torch.nn.init.torch.load", "torch.nn.init.warnings.sys.exit", "torch.nn.init.math.sqrt"),
    *(
        "torch.optim.optimizer.torch.hub.load",
        "torch.optim.optimizer.os.system",
        "torch.optim.sgd.torch.load",
    ),
    *("torch.optim.optimizer.functools.partial", "torch.optim.lr_scheduler.types.FunctionType"),
    *("torch.nn.utils.prune.torch.load", "torch.nn.utils.clip_grad_norm_", "torch.nn.parallel.DataParallel"),
    *(
        "torch.nn.parallel.DistributedDataParallel",
        "torch.nn.Module.__init__.__globals__",
        "torch.nn.Parameter",
    ),
    *("torch.nn.Module.load_state_dict", "torch.nn.Module.__class__", "torch.nn.functional.relu"),
    *(
        "torch.nn.init._no_grad_fill_",
        "torch.nn.modules.module._addindent",
        "torch.nn.init.__loader__.exec_module",
    ),
    *("sweepwise.data.download.os.system", "sweepwise.run.os.system", "sweepwise.seed.os.system"),
    *("sweepwise.seed:os.system", "sweepwise.config.schema.pkgutil.resolve_name", "sweepwise.data.np.load"),
    *(
        "sweepwise.data.cifar10.tarfile.open",
        "sweepwise.config.schema.bind.__globals__.get",
        "sweepwise.data.Path",
    ),
    *(
        "sweepwise.init.checkpoint.load_file",
        "sweepwise.scheduler.inspect.getsource",
        "sweepwise.data.split.__code__",
    ),
    # what is no name
    *(
        "",
        ".",
        "..",
        "torch",
        "torch.nn",
        "torch.nn.",
        ".torch.nn.Linear",
        "torch..nn.Linear",
        "torch.nn..Linear",
    ),
    *(" torch.nn.Linear", "torch.nn.Linear ", "torch.nn.Linear\n", "torch.nn.Linear()", "torch.nn:Linear"),
    *(
        "torch.nn/Linear",
        "torch\u2024nn\u2024Linear",
        "tоrch.nn.Linear",
        "torch.nn.Lineаr",
        "ｔorch.nn.Linear",
    ),
    *(
        "torch.nn.Linear\u200b",
        "Torch.nn.Linear",
        "torch.nnx.Linear",
        "torch.optimum.Adam",
        "sweepwiser.thing",
    ),
    *(
        "sweepwise",
        "sweepwise.",
        "sweepwise.model mlp",
        "x.torch.nn.Linear",
        "../torch.nn.Linear",
        "os;torch.nn.Linear",
    ),
    *(
        None,
        3,
        0.5,
        True,
        b"torch.nn.Linear",
        ["torch.nn.Linear"],
        {"_target_": "os.system"},
        ("os", "system"),
    ),
]


@pytest.fixture(scope="module")
def config() -> dict:
    config = dict(cli.composed(["early_stop=none", "regularizer=l1"], CONF).config)
    bind_all(config)
    return config


@pytest.fixture
def no_import():
    """Nothing is imported beyond what the rules themselves need."""
    for group in GROUPS:
        find(group_target(group), group)
    before = set(sys.modules)
    yield
    assert set(sys.modules) == before


def group_target(group: str) -> str:
    paths = sorted((CONF / group).glob("*.yaml"))
    return next(node["_target_"] for node in map(load, paths) if node.get("_target_", "???") != "???")


def load(path: Path) -> dict:
    return option_of(path)


def test_there_are_more_than_forty():
    assert len(HOSTILE) > 140


def test_every_test_that_the_page_on_security_names_is_there():
    named = set(re.findall(r"\btest_[a-z0-9_]+\b(?!\.py)", (ROOT / "docs" / "security.md").read_text()))
    there = {
        function
        for path in (ROOT / "tests").glob("test_*.py")
        for function in re.findall(r"^def (test_[a-z0-9_]+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 15 and named <= there


@pytest.mark.parametrize("target", HOSTILE, ids=lambda target: ascii(target)[:60])
def test_a_hostile_target_is_refused_in_every_group_and_nothing_is_imported(target, no_import):
    for group in (*GROUPS, "regularizer.l1", "group"):
        faults: list[str] = []
        part = bind(group, {"_target_": target}, faults)
        assert len(faults) == 1 and faults[0].startswith(f"{group}._target_="), faults
        assert len(faults[0].splitlines()) == 1 and part.target.func is dict
    told = faults[0]
    assert " must be " in told or "not found" in told or "is not allowed" in told


@pytest.mark.parametrize("target", HOSTILE[:110], ids=lambda target: ascii(target)[:60])
def test_a_hostile_target_within_a_value_is_refused(target, config, no_import):
    for value in ({"_target_": target}, {"a": {"_target_": target}}, [0, {"_target_": target}]):
        changed = {**config, "model": {**config["model"], "hidden": value}}
        with pytest.raises(UsageError) as refused:
            bind_all(changed)
        told = [fault for fault in refused.value.faults if "only a group itself may name a target" in fault]
        assert len(told) == 1 and told[0].startswith("model.hidden")


@pytest.mark.parametrize("target", ["os.system", "torch.load", "torch.nn.Linear", "sweepwise.model.mlp.mlp"])
def test_a_group_takes_from_its_own_places_only(target, config):
    for group in set(GROUPS) - {"model"}:
        nodes = {"l1": {"_target_": target}} if group == "regularizer" else {"_target_": target}
        with pytest.raises(UsageError) as refused:
            bind_all({**config, group: nodes})
        name = "regularizer.l1" if group == "regularizer" else group
        rule = f"{name}._target_={target}: must be one of sweepwise.{group}.*"
        assert refused.value.faults[0].startswith(rule)


def test_the_refusal_says_rule_value_and_way_out():
    with pytest.raises(ValueError) as refused:
        find("os.system", "optimizer")
    assert str(refused.value) == (
        "must be one of sweepwise.optimizer.*, torch.optim.*; a package of your own is allowed by its name "
        "in code: cli.main(train, packages=['PACKAGE'])"
    )


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_target_of_ours_is_allowed(path):
    target = load(path).get("_target_", "???")
    if target != "???" and path.parent.name != "experiment":
        assert callable(find(target, path.parent.name))


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("torch.nn.Linear", torch.nn.Linear),
        ("torch.nn.modules.linear.Linear", torch.nn.Linear),
        ("torch.nn.init.kaiming_normal_", torch.nn.init.kaiming_normal_),
        ("torch.optim.Adamax", torch.optim.Adamax),
        ("torch.optim.adamw.AdamW", torch.optim.AdamW),
        ("torch.optim.lr_scheduler.StepLR", torch.optim.lr_scheduler.StepLR),
        ("torch.optim.swa_utils.SWALR", torch.optim.swa_utils.SWALR),
    ],
)
def test_torchs_harmless_parts_are_found(target, found):
    assert find(target) is found


def names_below(module: str, depth: int = 3) -> set[str]:
    """All dotted names that attributes lead to from a module, to some depth."""
    found, waiting = set(), [(module, sys.modules[module], depth)]
    while waiting:
        path, thing, left = waiting.pop()
        for name in dir(thing):
            found.add(f"{path}.{name}")
            value = getattr(thing, name, None)
            if left > 1 and (inspect.ismodule(value) or inspect.isclass(value)):
                waiting.append((f"{path}.{name}", value, left - 1))
    return found


@pytest.mark.parametrize(
    "module", ["torch.nn.init", "torch.optim", "torch.optim.lr_scheduler", "torch.nn.modules.linear"]
)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_no_chain_of_attributes_leads_out_of_torchs_harmless_parts(module):
    """Whatever is reached by a name is a module, an optimizer, a scheduler or an initialisation."""
    names = {name for name in names_below(module) if name.count(".") < 7}
    assert any(".os." in name or ".sys." in name or ".torch." in name for name in names)
    kinds = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    allowed = 0
    for name in names:
        try:
            found = find(name)
        except ValueError:
            continue
        allowed += 1
        home = f"{found.__module__}."
        if home != "torch.nn.init.":
            assert issubclass(found, kinds) and home.startswith(("torch.nn.modules.", "torch.optim."))
    assert allowed


def test_nothing_of_torch_is_imported_for_a_target(no_import):
    with pytest.raises(ValueError, match="not found"):
        find("torch.nn.modules.no_such_module.Linear")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a user's own, and one that only stands beside it."""
    for name in ("mine_here", "foreign_here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "parts.py").write_text(
            "import os\nfrom os import system\nfrom functools import partial\nfrom pathlib import Path\n"
            "class Net:\n    class Inner: pass\n    @classmethod\n    def small(cls): pass\n"
            "def build(features, outputs): pass\n"
            "half = partial(build, 1)\ninstance = Net()\n_hidden = build\n"
            "class Kept: __module__ = 'pathlib._local'\nclass Inner: __module__ = '_io'\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(allowlist, "_allowed", set())
    yield "mine_here"
    for name in [name for name in sys.modules if name.startswith(("mine_here", "foreign_here"))]:
        del sys.modules[name]


def test_a_package_is_allowed_by_its_name_in_code(package):
    for name in ("Net", "build"):
        with pytest.raises(ValueError, match="must be one of"):
            find(f"mine_here.parts.{name}", "model")
    assert "mine_here" not in sys.modules
    allowlist.allow([package])
    for name in ("Net", "build"):
        assert find(f"mine_here.parts.{name}", "model").__name__ == name
    with pytest.raises(
        ValueError, match=r"must be one of sweepwise\.model\.\*, mine_here\.\*, torch\.nn\.\*"
    ):
        find("foreign_here.parts.Net", "model")
    assert "foreign_here" not in sys.modules


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("os.system", "not found"),
        ("system", "must be a class or a function"),
        ("Path", "is defined in pathlib, which is not allowed; wrap it in a function of your own package"),
        ("partial", "is defined in functools, which is not allowed"),
        ("Kept", "is defined in pathlib, which is not allowed"),
        ("Inner", "is defined in _io, which is not allowed"),
        ("half", "must be a class or a function"),
        ("instance", "must be a class or a function"),
        ("Net.Inner", "not found"),
        ("Net.small", "not found"),
        ("_hidden", "must be one of"),
        ("build.__globals__", "must be one of"),
        ("nothing", "not found"),
    ],
)
def test_what_an_own_package_has_only_imported_stays_foreign(name, rule, package):
    allowlist.allow([package])
    with pytest.raises(ValueError) as refused:
        find(f"mine_here.parts.{name}", "model")
    assert str(refused.value).startswith(rule)


@pytest.mark.parametrize("group", ["seed", "optimizer", "regularizer", "trainer"])
def test_what_a_group_can_use_is_checked_for_ones_own_too(group, package):
    allowlist.allow([package])
    with pytest.raises(ValueError, match="must be a class of"):
        find("mine_here.parts.Net", group)


@pytest.mark.parametrize("packages", ["mypackage", ["my-package"], [""], ["a..b"], ["a."]])
def test_a_package_must_be_named_as_one(packages):
    with pytest.raises(ValueError, match="packages="):
        allowlist.allow(packages)
