"""What README.md shows works: its commands compose, its Python runs."""

import re
import shlex

import pytest
import torch
from small import CONF, ROOT

from sweepwise import cli, run
from sweepwise.record import Request

TEXT = (ROOT / "README.md").read_text().replace("\\\n", " ")
COMMANDS = re.findall(r"^    python train\.py (.*)$", TEXT, re.M)


def one_of_each(argument: str) -> str:
    """The first run of a sweep: of several values the first."""
    key, _, values = argument.partition("=")
    first = "0" if values.startswith("range(") else values
    return f"{key}={first if first.startswith('[') else first.split(',')[0]}"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose_and_bind(command):
    arguments = shlex.split(command)
    if any(a.startswith("hydra.searchpath") for a in arguments):
        pytest.skip("needs the package; tests/test_examples.py installs it")
    asked = cli.composed([one_of_each(a) if "-m" in arguments else a for a in arguments if a != "-m"], CONF)
    assert isinstance(asked, Request)
    run.bind_all(asked.config)


def test_the_notebook_runs():
    threads = torch.get_num_threads()
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names: dict[str, object] = {}
    try:
        exec(block, names)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    assert names["fitted"].status in ("finished", "stopped early")
    assert names["fitted"].metrics["test/accuracy"] > 0.93
