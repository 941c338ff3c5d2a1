"""How a run that has ended is shown: a short table, and curves in a notebook."""

import html
import xml.etree.ElementTree as ElementTree
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

from sweepwise import Settings, build, fit, split
from sweepwise.data.sklearn_sets import diabetes, wine
from sweepwise.early_stop.never import Never
from sweepwise.library.curves import COLOURS, svg
from sweepwise.library.fitted import Fitted
from sweepwise.model.mlp import mlp
from sweepwise.system import progress


def fitted(data=None, lr=0.1, **changes):
    given = {"settings": Settings(max_epochs=3, device="cpu")} | changes
    data = data or split(wine(), batch_size=16)
    return fit(build(data=data, model=partial(mlp, hidden=[4]), optimizer=partial(SGD, lr=lr), **given))


def test_the_table_is_short_and_says_the_best():
    run = fitted()
    lines = repr(run).splitlines()
    assert len(lines) <= 8 and all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("finished      3 epochs, ")
    assert lines[1] == f"best          val/loss {run.best.value:.6g} at epoch {run.best.epoch}"
    text = repr(run)
    assert "confusion" not in text and "tensor" not in text and "accuracy" in text
    assert str(run) == text


def test_a_regression_and_a_run_without_validation_are_shown():
    run = fitted(split(diabetes(), batch_size=64), lr=1e-2)
    assert "val of best" in repr(run) and "r2" in repr(run)
    run = fitted(split(wine(), batch_size=16, validation=0.0))
    assert "the last weights, at epoch 2" in repr(run)
    assert run._repr_html_().count("<svg") == 1


def test_a_run_that_diverged_is_shown():
    run = fitted(split(diabetes(), batch_size=64), lr=1e6)
    assert repr(run).startswith("diverged")
    ElementTree.fromstring(f"<page>{run._repr_html_()}</page>")


def test_another_metric_that_chose_the_weights_has_its_own_curves():
    run = fitted(early_stop=Never(metric="val/accuracy", mode="max"))
    page = run._repr_html_()
    assert page.count("<svg") == 2 and ">val/accuracy<" in page and ">val/loss<" in page


def test_the_page_is_whole_and_escapes_what_it_shows():
    known = fitted()
    evil = '<script>alert("&")</script>'
    run = Fitted(
        "finished",
        evil,
        known.best,
        known.metrics,
        known.final,
        [{evil: 1.0, **line} for line in known.history],
        known.model,
        [evil],
        1.0,
        evil,
    )
    page = run._repr_html_()
    assert "<script" not in page and html.escape(evil) in page
    root = ElementTree.fromstring(f"<page>{page}</page>")
    assert [cell.text for cell in root.iter("th")][:2] == ["finished", "best"]
    picture = svg([{"epoch": 0, evil: 1.0}], [evil], 0)
    assert "<script" not in picture and ElementTree.fromstring(picture) is not None


def points(picture):
    namespace = "{http://www.w3.org/2000/svg}"
    lines = ElementTree.fromstring(picture).iter(f"{namespace}polyline")
    return [[tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in lines]


def test_curves_have_a_point_for_each_epoch_higher_for_more():
    history = [{"epoch": e, "train/loss": 4.0 - e, "val/loss": 2.0 + e} for e in range(3)]
    falling, rising = points(svg(history, ["train/loss", "val/loss"], 0))
    assert [x for x, _ in falling] == [x for x, _ in rising] == sorted(x for x, _ in falling)
    assert [y for _, y in falling] == sorted(y for _, y in falling)  # downwards, as y grows downwards
    assert [y for _, y in rising] == sorted((y for _, y in rising), reverse=True)
    assert falling[0][1] == rising[2][1] and falling[2][1] == rising[0][1]


def test_what_is_not_finite_is_left_out_and_one_epoch_is_a_dot():
    history = [{"epoch": 0, "val/loss": float("nan")}, {"epoch": 1, "val/loss": 1.0}]
    picture = svg(history, ["val/loss"], -1)
    assert len(points(picture)[0]) == 1 and "<circle" in picture and "nan" not in picture
    assert svg([], ["val/loss"], -1) == ""


def luminance(colour):
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_colours_are_seen_on_light_and_on_dark(colour, page):
    """3 : 1 for graphical objects: WCAG 2.2, 1.4.11."""
    high, low = sorted([luminance(colour), luminance(page)], reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 3


def test_where_nobody_looks_nothing_is_printed(capsys):
    fitted()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_its_bar_and_a_notebook_its_own(monkeypatch):
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    assert type(progress.progress(10, True)) is progress.Bar
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    assert type(progress.progress(10, True)) is progress.NotebookBar
    assert type(progress.progress(10, False)) is progress.Silent
    bar = progress.NotebookBar(10, begin=2)
    bar._step, bar._text = 6, "<b>"
    assert 'value="6"' in bar._page() and "60 %" in bar._page() and "&lt;b&gt;" in bar._page()


def test_seconds_and_folder_are_there(tmp_path):
    parts = build(
        data=split(wine(), batch_size=16),
        model=nn.Linear(13, 3),
        optimizer=partial(torch.optim.Adam, lr=0.1),
        settings=Settings(max_epochs=1, device="cpu"),
    )
    run = fit(parts, tmp_path / "mine")
    assert run.folder == str(tmp_path / "mine") and f"folder        {run.folder}" in repr(run)
    assert run.seconds > 0 and run.notes[0] in repr(run).replace("\n              ", " ")
