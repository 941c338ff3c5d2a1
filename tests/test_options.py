"""docs/options.md is what --help prints, and every group has one name wherever it stands."""

import re

import pytest
from small import ROOT

from sweepwise.cli.help import markdown, page
from sweepwise.cli.options import of_folder
from sweepwise.config import groups

CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "options.md"
FOLDERS = (*groups.GROUPS, groups.EXPERIMENT, groups.LAUNCHER)


def section(heading: str) -> str:
    """What stands below a heading of the page, up to the next of level 2, or of its own level."""
    level = heading.partition(" ")[0]
    text = "\n" + PAGE.read_text()
    below = text.partition(f"\n{heading}\n")[2]
    assert below, heading
    return re.split(rf"^#{{2,{len(level)}}} ", below, maxsplit=1, flags=re.M)[0]


def test_the_page_is_what_the_script_writes():
    assert PAGE.read_text() == markdown(of_folder(CONF)), "out of date: python scripts/write_options.py"


@pytest.mark.parametrize("group", FOLDERS)
def test_a_group_shows_its_notes_and_every_option_with_all_that_its_file_says(group):
    notes = (CONF / group / "README.md").read_text()
    assert notes.strip() and notes in section(f"## {group}")
    options = sorted(CONF.glob(f"{group}/*.yaml"))
    assert re.findall(r"^### (.*)$", section(f"## {group}"), re.M) == [f"{group}={o.stem}" for o in options]
    for path in options:
        said = [
            line for line in path.read_text().splitlines() if not line.startswith(("# @package", "_target_:"))
        ]
        assert "\n".join(["```yaml", *said, "```"]) in section(f"### {group}={path.stem}"), path


def test_links_lead_to_headings():
    text = PAGE.read_text()
    anchors = {re.sub(r"[^\w-]", "", heading) for heading in re.findall(r"^##+ (.*)$", text, re.M)}
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(links) == len(set(links)) >= len(list(CONF.glob("*/*.yaml"))) + len(FOLDERS)
    assert set(links) <= anchors


def test_the_defaults_are_marked():
    marked = re.findall(r"\*\*\[(\w+)\]\(#(\w+)\)\*\*", PAGE.read_text())
    assert ("adam", "optimizeradam") in marked and ("digits", "datadigits") in marked
    assert len(marked) == len(groups.GROUPS) + 1  # the launcher; no experiment is one


def test_help_of_a_group_begins_with_its_notes_and_help_of_an_option_has_none():
    first, *others = page(of_folder(CONF), ["--help", "seed"]).split("\n\n")
    notes = (CONF / "seed" / "README.md").read_text()
    assert [line.strip() for line in first.splitlines()] == ["seed:", *notes.splitlines()]
    assert "\n\n".join(others) == page(of_folder(CONF), ["--help", "seed=default,deterministic"])


@pytest.mark.parametrize("group", groups.GROUPS)
def test_a_group_has_one_name_in_four_places(group):
    assert (CONF / group).is_dir()
    assert (ROOT / "src" / "sweepwise" / group).is_dir() or (ROOT / f"src/sweepwise/{group}.py").exists()
    assert list((ROOT / "tests").glob(f"test_{group}*.py"))
    section(f"## {group}")
