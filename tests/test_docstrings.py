"""The examples in docstrings: every public part has one, and it shows what happens.

Public is what a user names: what a yaml of these groups points at, and what a package hands on. Both are
looked up here, so a component that is added comes under the rule by itself, wherever its file lies.
"""

import doctest
import importlib
import inspect
import pkgutil
import random
import socket
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import sweepwise

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("data", "early_stop", "init", "optimizer", "regularizer", "scheduler")
# What an example may use without an import; all else it imports, as a reader has to.
AT_HAND = {"torch": torch, "nn": torch.nn, "np": np, "partial": partial}
LONGEST = 6  # lines of code, without imports


def is_part(thing) -> bool:
    """Whether something is a function or class of sweepwise that can be tried; a Protocol cannot."""
    ours = getattr(thing, "__module__", "").startswith("sweepwise.")
    return ours and (inspect.isfunction(thing) or (inspect.isclass(thing) and not is_protocol(thing)))


def is_protocol(kind: type) -> bool:
    return getattr(kind, "_is_protocol", False)


def handed_on(package) -> list:
    """What a package offers: its `__all__`, else all its functions and classes without an underscore."""
    names = getattr(package, "__all__", None) or [name for name in dir(package) if not name.startswith("_")]
    things = [getattr(package, name) for name in names]
    home = f"{package.__name__}."
    return [thing for thing in things if is_part(thing) and f"{thing.__module__}.".startswith(home)]


def targets(conf: Path) -> list:
    """What the yaml files of these groups point at, as far as it is sweepwise's own."""
    files = [path for group in GROUPS for path in sorted((conf / group).glob("*.yaml"))]
    named = [str(yaml.safe_load(path.read_text())["_target_"]) for path in files]
    return [attribute(name) for name in named if name.startswith("sweepwise.")]


def attribute(name: str):
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def name_of(part) -> str:
    return f"{part.__module__}.{part.__qualname__}"


def public_parts() -> dict:
    """Every public part by the name under which it is defined."""
    packages = [sweepwise, *(importlib.import_module(f"sweepwise.{group}") for group in GROUPS)]
    parts = targets(CONF) + [part for package in packages for part in handed_on(package)]
    return {name_of(part): part for part in sorted(parts, key=name_of)}


def modules_with_examples() -> list[str]:
    """The modules of the groups and of the public parts in which there is an example."""
    names = {part.__module__ for part in PARTS.values()}
    for group in GROUPS:
        package = importlib.import_module(f"sweepwise.{group}")
        names |= {module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")}
    return sorted(name for name in names if examples_of(importlib.import_module(name)))


def examples_of(thing) -> list[doctest.DocTest]:
    """The docstrings with examples of a module, or of a part and of what lies in it."""
    module = thing if inspect.ismodule(thing) else sys.modules[thing.__module__]
    name = thing.__name__ if inspect.ismodule(thing) else name_of(thing)
    found = doctest.DocTestFinder(exclude_empty=True).find(thing, name, module)
    return [test for test in found if test.examples]


def faults_of(part) -> list[str]:
    """What is wrong with the example of a part; the docstring must be its own."""
    tests = [test for test in examples_of(part) if test.name == name_of(part)]
    if not tests:
        return ["has no example"]
    (test,) = tests
    faults = (
        [] if "    Example:\n" in inspect.getsource(part) else ["its example is in no section 'Example:'"]
    )
    code = "".join(example.source for example in test.examples).splitlines()
    lines = [line for line in code if not line.startswith(("import ", "from "))]
    if len(lines) > LONGEST:
        faults.append(f"its example has {len(lines)} lines, more than {LONGEST}")
    if not any(example.want for example in test.examples):
        faults.append("its example shows no value")
    return faults


def failures_of(module) -> list[str]:
    """What the examples of a module print where another value stands."""
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in examples_of(module):
        first = test.name.removeprefix(f"{module.__name__}.").partition(".")[0]
        test.globs = AT_HAND | ({first: getattr(module, first)} if hasattr(module, first) else {})
        runner.run(test, out=report.append)
    return report


PARTS = public_parts()


@pytest.fixture
def apart(monkeypatch, tmp_path):
    """An example leaves nothing behind (files, generators, threads) and uses no network."""

    def refuse(*address):
        raise OSError("an example must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    threads, numpys, pythons = torch.get_num_threads(), np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=()):
        yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    np.random.set_state(numpys)
    random.setstate(pythons)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_show_what_happens(name, apart):
    failures = failures_of(importlib.import_module(name))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", PARTS)
def test_a_public_part_has_a_short_example(name):
    assert not faults_of(PARTS[name]), f"{name} {'; '.join(faults_of(PARTS[name]))}"


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_public_parts(group):
    assert any(name.startswith(f"sweepwise.{group}.") for name in PARTS)


def test_what_the_package_itself_offers_is_public():
    offered = {thing.__qualname__ for thing in map(partial(getattr, sweepwise), sweepwise.__all__)}
    assert offered <= {part.__qualname__ for part in PARTS.values()}


def test_a_new_component_comes_under_the_rule_by_its_yaml(tmp_path):
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "new.yaml").write_text("_target_: sweepwise.init.default.keep_all\n")
    (tmp_path / "init" / "torchs.yaml").write_text("_target_: torch.nn.init.zeros_\n")
    (part,) = targets(tmp_path)
    assert faults_of(part) == ["has no example"]


def test_an_example_that_shows_another_value_fails(tmp_path, monkeypatch):
    (tmp_path / "wrong_example.py").write_text(
        'def double(x):\n    """Twice x.\n\n    Example:\n        >>> double(2)\n        5\n    """\n'
        "    return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (failure,) = failures_of(importlib.import_module("wrong_example"))
    assert "Expected:\n    5\nGot:\n    4\n" in failure
