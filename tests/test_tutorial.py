"""The tutorial as a notebook: both languages have the same cells, which run and show what they must."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty

import pytest
from small import ENVIRONMENT, ROOT, without

EXAMPLES = ROOT / "examples"
NOTEBOOKS = {"en": "tutorial.ipynb", "zh": "tutorial.zh.ipynb"}
LANGUAGE = re.compile(r'^LANGUAGE = "(en|zh)"', re.M)
SAID = [  # by the cells, whatever the machine
    "seed 42 [0.5406, 0.5869, -0.1657]",
    "same seed, same run: True",
    "other seed, same run: False",
    "plateau drops at [12, 23, 34, 45, 56, 67, 78]",
    "train: two passes of the same input are equal: False",
    "eval:  two passes of the same input are equal: True",
    "the valley: {1: 21, 3: 23, 5: 25, 7: 27, 10: 30}",
    "kept by .copy():    False",
    "kept by deepcopy(): True",
]
PICTURES = 11


def cells(language: str) -> list[dict]:
    return json.loads((EXAMPLES / NOTEBOOKS[language]).read_text())["cells"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def outputs(cells: list[dict], kind: str) -> list[str]:
    """What cells have shown, of a kind such as text/html; of a stream what it said."""
    found = [output for cell in cells for output in cell.get("outputs", ())]
    texts = [one.get("data", {}).get(kind, one.get("text", "") if kind == "stream" else "") for one in found]
    return ["".join(text) for text in texts if text]


def assert_shown(cells: list[dict]) -> None:
    assert not [out for cell in cells for out in cell.get("outputs", ()) if out["output_type"] == "error"]
    said = "".join(outputs(cells, "stream"))
    assert not [line for line in SAID if line not in said]
    assert len(outputs(cells, "image/png")) == PICTURES
    tables = [page for page in outputs(cells, "text/html") if "<table>" in page]
    assert len(tables) == 2 and all("<svg" in table for table in tables)
    assert "stopped early" in tables[1]


def test_both_languages_have_the_same_cells():
    pair = [cells(language) for language in NOTEBOOKS]
    assert [cell["cell_type"] for cell in pair[0]] == [cell["cell_type"] for cell in pair[1]]
    code = [[source(cell) for cell in each if cell["cell_type"] == "code"] for each in pair]
    assert [LANGUAGE.findall(text) for text in (code[0][0], code[1][0])] == [["en"], ["zh"]]
    assert [LANGUAGE.sub("", text) for text in code[0]] == [LANGUAGE.sub("", text) for text in code[1]]
    for english, chinese in zip(*pair, strict=True):
        if english["cell_type"] == "markdown":
            texts = source(english), source(chinese)
            assert [text.count("\n|") for text in texts] == [texts[0].count("\n|")] * 2, texts
            assert re.search(r"[一-鿿]", texts[1]), texts
            headings = [re.findall(r"^#+", text, re.M) for text in texts]
            assert headings[0] == headings[1]


def test_every_section_ends_with_what_to_take_away():
    for language, words in (("en", "**Take away.**"), ("zh", "**要点。**")):
        text = "\n".join(source(cell) for cell in cells(language) if cell["cell_type"] == "markdown")
        sections = re.split(r"^## ", text, flags=re.M)[1:]
        assert len(sections) == 6 and [words in section for section in sections] == [True] * 5 + [False]


@pytest.mark.parametrize("language", NOTEBOOKS)
def test_what_is_stored_is_small_and_shows_what_it_must(language):
    assert (EXAMPLES / NOTEBOOKS[language]).stat().st_size < 1_000_000
    assert_shown(cells(language))


@pytest.mark.parametrize("language", NOTEBOOKS)
def test_links_lead_to_files(language):
    for cell in cells(language):
        if cell["cell_type"] == "markdown":
            for link in re.findall(r"\]\(([^)#\s]+)\)", source(cell)):
                assert (EXAMPLES / link).exists(), link


@contextmanager
def kernel(folder) -> Iterator[tuple]:
    """A notebook's kernel and its client, in a folder."""
    try:
        from jupyter_client.manager import start_new_kernel
    except ImportError:
        without("nbclient and ipykernel are not installed")
    home = {"IPYTHONDIR": str(folder / "ipython"), "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", "")}
    environment = {**ENVIRONMENT, **{key: value for key, value in home.items() if value}}
    manager, client = start_new_kernel(cwd=str(folder), env=environment)
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.parametrize("language", NOTEBOOKS)
def test_it_runs(language, tmp_path):
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError:
        without("nbclient and ipykernel are not installed")
    notebook = nbformat.read(EXAMPLES / NOTEBOOKS[language], 4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources)
    client.execute(env={**ENVIRONMENT, "IPYTHONDIR": str(tmp_path / "ipython")})
    assert_shown(notebook.cells)


SETUP = """
from functools import partial
import torch
from sweepwise import Settings, build, fit, split
from sweepwise.data.sklearn_sets import wine
from sweepwise.model.mlp import mlp
def parts(epochs):
    settings = Settings(max_epochs=epochs, device="cpu")
    adam = partial(torch.optim.Adam, lr=1e-3)
    return build(data=split(wine()), model=partial(mlp, hidden=[8]), optimizer=adam, settings=settings)
"""


def answers(client, text: str, once=lambda message: None) -> list[dict]:
    """The messages of a kernel while it runs a cell; `once` is called with each."""
    asked = client.execute(text)
    found = []
    while True:
        try:
            message = client.get_iopub_msg(timeout=300)
        except Empty:
            pytest.fail("the kernel does not answer")
        if message["parent_header"].get("msg_id") != asked:
            continue
        found.append(message)
        once(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return found


def pages(messages: list[dict], *kinds: str) -> list[str]:
    """The HTML of what was displayed, or brought up to date."""
    return [m["content"]["data"].get("text/html", "") for m in messages if m["msg_type"] in kinds]


@pytest.mark.slow
def test_in_a_notebook_there_is_a_bar_and_an_interrupt_gives_what_there_is(tmp_path):
    with kernel(tmp_path) as (manager, client):
        assert answers(client, SETUP)[-1]
        interrupted = []

        def interrupt(message):
            bar = "".join(pages([message], "update_display_data"))
            if "epoch" in bar and not interrupted:
                interrupted.append(bar)
                manager.interrupt_kernel()

        messages = answers(client, "long = parts(100_000)\nfitted = fit(long, 'kept')\nfitted", interrupt)
        assert not [m for m in messages if m["msg_type"] == "error"]
        assert "<progress" in pages(messages, "display_data")[0] and "val/loss" in interrupted[0]
        assert pages(messages, "update_display_data")[-1] == ""  # it disappears
        (table,) = pages(messages, "execute_result")
        assert "interrupted" in table and "<svg" in table and "the same call goes on" in table
        said = answers(client, "print(fitted.status, len(fitted.history) > 0, fitted.best.epoch >= 0)")
        texts = [m["content"]["text"] for m in said if m["msg_type"] == "stream"]
        assert texts == ["interrupted True True\n"]
        quiet = answers(client, "done = fit(parts(2), progress=False)")
        assert not [m for m in quiet if m["msg_type"] in ("display_data", "stream", "error")]
    assert (tmp_path / "kept" / "checkpoints" / "last").exists()


@pytest.mark.slow
def test_the_first_cells_say_which_language(tmp_path):
    """Labels are Chinese where there is a font for it."""
    if not shutil.which("fc-list"):
        without("fontconfig is missing")
    (first,) = [source(cell) for cell in cells("zh") if "LANGUAGE" in source(cell)]
    with kernel(tmp_path) as (_, client):
        asked = f"{first}\nfrom sweepwise.tools.figure import chinese_font, label\nprint(label('a', '一'))"
        said = [m["content"]["text"] for m in answers(client, asked) if m["msg_type"] == "stream"]
    assert said in (["一\n"], ["a\n"])
