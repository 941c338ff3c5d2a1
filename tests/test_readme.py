"""What README.md and the other pages show works: links lead somewhere, commands compose, the Python runs."""

import re
import shlex

import pytest
import torch
from small import CONF, ROOT

from sweepwise import cli, run
from sweepwise.store.request import Request

PAGES = {
    str(path.relative_to(ROOT)): path.read_text().replace("\\\n", " ")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md"))
}
README = PAGES["README.md"]
COMMANDS = {
    f"{name}: {command}": command
    for name, text in PAGES.items()
    if not name.startswith("docs/guide/")  # tests/test_scripts_guide.py has those
    for command in re.findall(r"^    ((?:python|torchrun) .*)$", text, re.M)
}


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """Where links to the headings of a page lead, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_of_each(argument: str) -> str:
    """The first run of a sweep: of several values the first."""
    key, _, values = argument.partition("=")
    first = "0" if values.startswith("range(") else values
    return f"{key}={first if first.startswith('[') else first.split(',')[0]}"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_commands_compose_and_bind(command):
    words = shlex.split(command, comments=True)
    script = next(word for word in words if word.endswith(".py"))
    assert (ROOT / script).exists(), script
    arguments = words[words.index(script) + 1 :]
    if script != "train.py" or "--help" in arguments or any(a.startswith("-sc") for a in arguments):
        return
    if any(a.startswith("hydra.searchpath") for a in arguments):
        pytest.skip("needs the package; tests/test_examples.py installs it")
    asked = cli.composed([first_of_each(a) if "-m" in arguments else a for a in arguments if a != "-m"], CONF)
    assert isinstance(asked, Request)
    run.bind_all(asked.config)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[name])):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / file).resolve() if file else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_is_reached_from_the_readme():
    reached, to_read = set(), ["README.md"]
    while to_read:
        name = to_read.pop()
        reached.add(name)
        for link in re.findall(r"\]\(([^)#\s]+\.md)", PAGES[name]):
            other = str(((ROOT / name).parent / link).resolve().relative_to(ROOT))
            if other not in reached:
                to_read.append(other)
    assert reached >= set(PAGES)


def test_every_script_is_shown_on_a_page():
    text = "".join(PAGES.values())
    for path in (ROOT / "scripts").glob("*.py"):
        assert path.name in text, path


def test_the_readme_is_a_front_page():
    headings = re.findall(r"^## (.*)$", README, re.M)
    assert headings == [
        "Install",
        "One run",
        "A sweep",
        "TensorBoard",
        "Slurm",
        "Python",
        "Parts of your own",
        "What a run leaves",
        "Limits",
        "More",
    ]
    assert len(README.splitlines()) <= 130
    assert "![" in README[: README.index("## Install")]


def test_the_notebook_runs():
    threads = torch.get_num_threads()
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, object] = {}
    try:
        exec(block, names)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    assert names["fitted"].status in ("finished", "stopped early")
    assert names["fitted"].metrics["test/accuracy"] > 0.93
