"""Texts and commands in Markdown, read back by markdown-it-py, which follows CommonMark."""

import pytest
import sweeps
from markdown_it import MarkdownIt

from sweepwise.results import words
from sweepwise.results.answer import answer
from sweepwise.results.loading import from_records
from sweepwise.results.markup import code, escaped
from sweepwise.results.page import files
from sweepwise.results.page.markdown import markdown

HARMFUL = "python `</code></script><b>x</b>`"
READER = MarkdownIt("commonmark").enable("table")


def tokens(text: str):
    """All tokens, with those inside of lines."""
    return [inner for token in READER.parse(text) for inner in [token, *(token.children or [])]]


@pytest.mark.parametrize(
    "command",
    [
        "python train.py -m init=xavier",
        "python train.py 'x=`<img src=x>`'",
        "`a",
        "a`",
        "``",
        "a``b```c",
        " a ",
        "  ",
        "a\\`b",
        "*a* <b>",
        "python a\n<img src=1 onerror=alert(1)>",
        "a\r\n\r\n# b\u2028c",
    ],
)
def test_code_is_read_as_it_was_written(command):
    found = tokens(f"- {code(command)} after")
    wanted = command.replace("\r\n", " ").replace("\n", " ").replace("\u2028", " ")
    assert [token.content for token in found if token.type == "code_inline"] == [wanted]
    assert not [token for token in found if token.type.startswith(("html", "heading"))]


@pytest.mark.parametrize("text", [HARMFUL, "python *a* [b](c)", "a`b`", "<b>", "| a |", "# a", "\\`a`"])
def test_a_text_is_read_as_text(text):
    found = tokens(f"a {escaped(text)}")
    assert "".join(token.content for token in found if token.type in ("text", "text_special")) == f"a {text}"


def harmful():
    records = [
        {HARMFUL: value, "next": value, "seed": seed, "loss": place + seed / 10}
        for place, value in enumerate((HARMFUL, "python b`", "c\n<i>d</i>"))
        for seed in range(3)
    ]
    return answer(from_records(records, "loss"))


def test_no_value_of_a_sweep_is_code_or_html():
    said = harmful()
    for text in (words.markdown(said), markdown(files.composed(said))):
        found = tokens(text)
        assert not [token for token in found if token.type.startswith("html")]
        commands = [token.content for token in found if token.type == "code_inline"]
        assert all(command.startswith("python ") for command in commands)
        assert "</code></script><b>x</b>" in "".join(
            token.content for token in found if token.type != "inline"
        )


def test_a_command_is_code_wherever_it_stands():
    found = files.composed(answer(sweeps.table({("a",): [0.5, 0.6], ("b",): [0.7, 0.8]}, ("k",))))
    command = "python train.py -m 'x=`<img src=1 onerror=alert(1)>`'"
    finding = {"kind": "edge", "text": {"en": "t", "zh": "t"}, "evidence": {"en": "e", "zh": "e"}}
    found |= {"next": [f"{command}\n<b>"], "critique": [{**finding, "command": command}]}
    read = tokens(markdown(found))
    assert command in [token.content for token in read if token.type == "code_inline"]
    assert f"{command} <b>\n" in [token.content for token in read if token.type == "code_block"]
    assert not [token for token in read if token.type.startswith("html")]
