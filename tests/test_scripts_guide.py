"""The guide: its commands work, both languages have the same, and its pictures are those of the commands."""

import re
import shlex

import pytest
from matplotlib import image
from small import CONF, ROOT

from sweepwise import cli, run

GUIDE = ROOT / "docs" / "guide"
SMALLER = {  # of the two scripts that train for long when they are started without arguments
    "scripts/draw_depth.py": ["nets=1", "model.hidden=[10,10,10]"],
    "scripts/draw_dropout.py": ["data=wine", "model.hidden=[8]", "trainer.max_epochs=2", "seeds=0,1"],
}
LANGUAGES = ("en", "zh")
PICTURE = re.compile(r"!\[[^]]+\]\((figures/\w+/(\w+)\.png)\)")


def page(language: str) -> str:
    return (GUIDE / f"{language}.md").read_text()


def commands(language: str) -> list[str]:
    """What stands in the page's blocks for the shell."""
    blocks = re.findall(r"```sh\n(.*?)```", page(language), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def first_of_each(argument: str) -> str:
    """An override with the first of the values that it sweeps."""
    key, _, value = argument.partition("=")
    return f"{key}={'0' if value.startswith('range(') else value.split(',')[0]}"


def test_the_index_leads_to_both_languages_and_they_to_each_other():
    index = (GUIDE / "README.md").read_text()
    assert all(f"({language}.md)" in index for language in LANGUAGES)
    assert "(zh.md)" in page("en") and "(en.md)" in page("zh")


def test_both_languages_have_the_same_commands_outputs_and_pictures_in_the_same_order():
    assert commands("en") == commands("zh") and len(commands("en")) >= 30
    blocks = [re.findall(r"```text\n.*?```", page(language), re.DOTALL) for language in LANGUAGES]
    assert blocks[0] == blocks[1]
    pictures = [[name for _, name in PICTURE.findall(page(language))] for language in LANGUAGES]
    assert pictures[0] == pictures[1]
    assert [page(language).count("\n## ") for language in LANGUAGES] == [6, 6]
    rows = [len(re.findall(r"^\|", page(language), re.MULTILINE)) for language in LANGUAGES]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("command", dict.fromkeys(commands("en")))
def test_a_command_of_the_guide_can_be_composed(command):
    python, script, *arguments = shlex.split(command)
    assert python == "python" and (ROOT / script).exists()
    if script == "train.py":
        overrides = [first_of_each(argument) for argument in arguments if argument != "-m"]
        run.bind_all(cli.composed(overrides, CONF).config)


def test_every_experiment_of_the_tutorial_is_in_the_guide():
    shown = " ".join(commands("en"))
    for path in (CONF / "experiment").glob("*.yaml"):
        assert f"experiment={path.stem}" in shown, path


@pytest.mark.parametrize("language", LANGUAGES)
def test_pictures_are_there_small_and_made_by_a_command_above_them(language):
    text = page(language)
    found = PICTURE.findall(text)
    assert found and {path for path, _ in found} == {
        str(path.relative_to(GUIDE)) for path in (GUIDE / "figures" / language).iterdir()
    }
    for path, name in found:
        assert (GUIDE / path).stat().st_size < 60_000, path
        assert len({tuple(pixel) for row in image.imread(GUIDE / path)[::7] for pixel in row}) > 10, path
        above = text[: text.index(path)]
        assert f"outputs/figures/{name}.png" in above or f"scripts/{name}.py" in above, path


@pytest.mark.slow
def test_all_commands_of_the_guide_work_one_after_the_other(empty_folder, monkeypatch, as_command):
    """As they stand, but for what trains, which gets a small data set and network."""
    monkeypatch.setenv("LANG", "C.UTF-8")
    for command in commands("en"):
        _, script, *arguments = shlex.split(command)
        if script == "train.py":
            arguments = [argument for argument in arguments if not argument.startswith("data=")]
            arguments += ["data=wine", "model.hidden=[8]", "monitor=none", "progress=false"]
        arguments += SMALLER.get(script, [])
        code, _, complaint = as_command(str(ROOT / script), *arguments)
        assert (code, complaint) == (0, ""), command
    names = {f"{name}.png" for _, name in PICTURE.findall(page("en"))}
    assert names <= {path.name for path in (empty_folder / "outputs" / "figures").iterdir()}
