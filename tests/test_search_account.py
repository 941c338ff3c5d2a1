"""How the result of a guided search is shown: numbers as scipy has them, forms that hold nothing but text."""

import itertools
import math
import re
from html.parser import HTMLParser

import accounts
import pytest
from markdown_it import MarkdownIt
from scipy import stats

from sweepwise.search.guided import account_dots, account_result
from sweepwise.search.guided.account import Account, Chapter, Compared
from sweepwise.search.guided.account_markdown import markdown
from sweepwise.search.guided.account_page import html
from sweepwise.search.guided.account_result import against, conclusion, of_metric, of_test, verdict
from sweepwise.search.guided.account_text import lines
from sweepwise.search.guided.account_words import command, is_decided, shown
from sweepwise.system.console import wrapped

ACCOUNTS = accounts.several()
READER = MarkdownIt("commonmark").enable("table")
HARMFUL = (
    "a|b`</td><script>alert(1)</script>\n\n# c [d](e) ![f](g) <img src=x onerror=alert(2)> \"'&lt;{{ 7*7 }}"
)
PAGE_LINES = 60


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._hidden = "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        self.text += "" if self._hidden else data

    def of(self, tag, kind=""):
        return [found for name, found in self.elements if name == tag and (found.get("class") or "") == kind]


def printed(account: Account, **options) -> list[str]:
    return "\n".join(wrapped(*line) for line in lines(account, **options)).splitlines()


# --- numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_the_result_is_compared_as_by_scipy(sign):
    chosen, default = accounts.values(0.38, range(6)), accounts.values(0.45, range(6))
    found = against("val/x", sign, chosen, default)
    theirs = stats.ttest_rel(list(chosen.values()), list(default.values()))
    interval = theirs.confidence_interval(0.95)
    assert found.difference.mean == pytest.approx(sum(chosen.values()) / 6 - sum(default.values()) / 6)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))
    assert found.difference.p == pytest.approx(theirs.pvalue)
    own = stats.ttest_1samp(list(chosen.values()), 0).confidence_interval(0.95)
    assert (found.chosen.low, found.chosen.high) == pytest.approx((own.low, own.high))
    assert found.kind == ("better" if sign == 1 else "worse")
    assert verdict(found).startswith(f"{found.kind} than the default by 0.0")


def test_a_difference_that_may_be_none_is_not_called_one():
    found = against("val/x", -1, {0: 0.5, 1: 0.7, 2: 0.6}, {0: 0.6, 1: 0.5, 2: 0.55})
    assert found.kind == "not distinguishable"
    assert re.match("not distinguishable from the default with 3 seeds: ahead by 0.05", verdict(found))


def test_equal_steps_of_a_coarse_metric_prove_nothing():
    """Three accuracies of 20 examples each, all one example better: that is what rounding may give."""
    found = against("val/accuracy", -1, {0: 0.90, 1: 0.85, 2: 0.80}, {0: 0.85, 1: 0.80, 2: 0.75})
    assert found.kind == "not distinguishable"


@pytest.mark.parametrize(
    ("chosen", "default", "said"),
    [
        ({0: 0.4}, {0: 0.5}, "ahead by 0.1; with 1 seed nothing can be claimed"),
        ({0: 0.5}, {0: 0.4}, "behind by 0.1; with 1 seed nothing can be claimed"),
        ({0: 0.4, 1: 0.5}, {0: 0.4, 1: 0.5}, "equal to the default with each of 2 seeds"),
        ({}, {0: 0.5}, "nothing can be said, as the result has no value"),
        ({0: 0.5}, {0: math.nan}, "nothing can be said, as the default has no value"),
        ({}, {}, "nothing can be said, as neither has a value"),
    ],
)
def test_a_verdict_of_few_values(chosen, default, said):
    assert verdict(against("val/loss", 1, chosen, default)) == said


def test_seeds_that_one_of_both_lacks_are_counted():
    chosen, default = accounts.values(0.3, range(6)), accounts.values(0.5, range(4))
    found = against("val/loss", 1, chosen, default)
    theirs = stats.ttest_rel([chosen[at] for at in range(4)], [default[at] for at in range(4)])
    assert found.difference.p == pytest.approx(theirs.pvalue)
    assert "with 4 seeds (2 left out" in verdict(found)


def test_metrics_of_the_test_part_have_their_own_direction():
    loss, accuracy = of_test(ACCOUNTS["whole"])
    assert (loss.tag, loss.sign, loss.kind) == ("test/loss", 1, "better")
    assert (accuracy.tag, accuracy.sign, accuracy.kind) == ("test/accuracy", -1, "better")
    own = Account("val/mine", -1, (), test={"chosen": {"test/mine": {0: 1.0}}})
    assert of_test(own)[0].sign == -1


def test_what_was_refused_is_not_called_the_result():
    assert conclusion(ACCOUNTS["refused"]).startswith("the default is kept; what the stages had found is ")
    assert conclusion(ACCOUNTS["the default"]) == "the default is kept"
    assert account_result.reached(ACCOUNTS["refused"]).startswith("the default is kept, val/loss 0.45")
    assert of_metric(ACCOUNTS["no final stage"]) is None


def test_a_default_that_has_diverged_is_called_that():
    last = Chapter("final", "?", "d", "h", compared=(Compared((), note="6 of 6 runs diverged"),))
    broken = accounts.account(default={}, chapters=(*accounts.chapters()[:-1], last))
    said = "the default has no value (6 of 6 runs diverged), the result has one with 6 seeds"
    assert conclusion(broken) == said


# --- settings, commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [2, 8, 12])
def test_of_a_thousand_settings_the_best_are_shown_and_what_was_decided(most):
    chapter = accounts.chapters()[3]
    rows, left_out = shown(chapter, most)
    assert len(rows) == most
    assert left_out == 1000 - most
    assert rows[: most - 2] == list(chapter.compared[: most - 2])
    assert is_decided(rows[-2], chapter)
    assert rows[-1].overrides == ()


def test_the_command_has_what_a_run_is_and_is_one_of_a_shell():
    account = accounts.account(
        base=("name=a", "+x=it's", "seed.value=3", "hydra/launcher=slurm", "fresh=true", "init=zeros"),
        found=("init=lsuv", "regularizer=[l2,dropout]"),
    )
    said = command(account)
    assert said == """python train.py '+x=it'"'"'s' init=lsuv 'regularizer=[l2,dropout]'"""
    assert command(account, "best", ["python", "mine.py"]) == "python mine.py experiment=best"


# --- the terminal --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ACCOUNTS)
def test_lines_are_a_page_at_most(which):
    account = ACCOUNTS[which]
    found = printed(account)
    assert len(found) <= PAGE_LINES
    assert all(len(line) <= 80 for line in found) or which == "long"
    for chapter in account.chapters:
        assert sum(key == chapter.stage for key, _ in lines(account)) == 1
    assert [key for key, _ in lines(account)].count("cost") == 1


def test_lines_say_both_means_the_difference_and_the_test_part_once():
    text = " ".join(" ".join(printed(ACCOUNTS["whole"], saved="best")).split())
    chosen, default = ACCOUNTS["whole"].chosen.values(), ACCOUNTS["whole"].default.values()
    for values in (chosen, default):
        assert f"{sum(values) / 6:.4f} [" in text
    assert re.search(
        r"better than the default by 0\.0\d+ \[0\.0\d+, 0\.0\d+\], p < 0\.001, with 6 seeds", text
    )
    assert text.count("test/loss") == text.count("test/accuracy") == 1
    assert "train it python train.py experiment=best" in text
    assert "1,071 runs, 31,890 epochs, 624 minutes" in text


def test_without_a_final_stage_nothing_is_claimed():
    text = " ".join(" ".join(printed(ACCOUNTS["no final stage"])).split())
    assert account_result.NOT_CHECKED in text
    assert "than the default" not in text


# --- Markdown ------------------------------------------------------------------------------------------


def tokens(text: str):
    return [inner for token in READER.parse(text) for inner in [token, *(token.children or [])]]


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, as a reader of Markdown has them."""
    found: list[list[list[str]]] = []
    cell = False
    for token in READER.parse(text):
        if token.type == "table_open":
            found.append([])
        if token.type == "tr_open":
            found[-1].append([])
        if cell:
            found[-1][-1].append("".join(one.content for one in token.children or []))
        cell = token.type in ("th_open", "td_open")
    return found


@pytest.mark.parametrize("which", ACCOUNTS)
def test_markdown_has_the_stages_and_at_most_eight_settings_of_each(which):
    account = ACCOUNTS[which]
    found = tables(markdown(account))
    assert all(len(row) == len(table[0]) for table in found for row in table)
    if account.chapters:
        stages = found.pop(0)
        assert [row[0] for row in stages[1:]] == [chapter.stage for chapter in account.chapters]
    compared = [chapter for chapter in account.chapters if chapter.compared]
    for chapter in compared:
        assert len(found.pop(0)) == 1 + min(len(chapter.compared), 8)
    assert len(found) == bool(account.fresh)


def test_markdown_counts_what_it_leaves_out():
    assert "\nand 992 more\n" in markdown(ACCOUNTS["whole"])


def test_no_text_means_anything_in_markdown():
    found = tokens(markdown(accounts.hostile(HARMFUL)))
    kinds = {token.type for token in found}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "fence"}
    headings = [token.tag for token in found if token.type == "heading_open"]
    assert headings == ["h1", "h2", "h2", "h2", "h2"]
    (code,) = [token.content for token in found if token.type == "code_inline"]
    assert "<script>" in code
    assert all(
        len(row) == len(table[0]) for table in tables(markdown(accounts.hostile(HARMFUL))) for row in table
    )


# --- the page ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ACCOUNTS)
def test_a_page_draws_a_dot_for_each_value(which):
    account = ACCOUNTS[which]
    page = Page(html(account))
    shown_ones = [one for chapter in account.chapters for one in shown(chapter, 12)[0]]
    values = [value for one in shown_ones for value in one.values.values() if math.isfinite(value)]
    fresh = [account.chosen, account.default] if account.fresh else []
    fresh = fresh[1:] if account_result.is_default(account) else fresh
    values += [value for one in fresh for value in one.values() if math.isfinite(value)]
    beyond = sum(int(n) for n in re.findall(r"(\d+) ▸|◂ (\d+)", page.text) for n in n if n)
    assert len(page.of("circle", "seed")) + beyond == len(values)
    assert not page.of("script")


def test_no_text_means_anything_on_a_page():
    page, plain = Page(html(accounts.hostile(HARMFUL))), Page(html(accounts.hostile("a")))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text


def test_a_page_asks_for_nothing_and_runs_nothing():
    page = Page(html(ACCOUNTS["whole"]))
    (policy,) = [found["content"] for tag, found in page.elements if "http-equiv" in found]
    assert policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    links = [found[name] for _, found in page.elements for name in ("src", "href") if name in found]
    assert all(link.startswith(("#", "data:")) for link in links)


def test_every_drawing_says_in_words_what_it_shows():
    page = Page(html(ACCOUNTS["whole"]))
    drawings = [found for tag, found in page.elements if tag == "svg" and "role" in found]
    assert drawings
    assert all(re.match(r"\d+ seeds? from -?\d", found["aria-label"]) for found in drawings)


# --- dots ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_dots_stand_where_their_values_are(sign):
    settings = [Compared(("a",), {0: 1.0, 1: 3.0}), Compared(("b",), {0: 2.0}), Compared(("c",), {})]
    found = account_dots.dots(settings, sign)
    low, high = account_dots.EDGE, 100 - account_dots.EDGE
    assert found.rows[0].dots == (low, high)
    assert found.rows[0].mean == found.rows[1].dots[0] == 50.0
    assert found.rows[2] == account_dots.Row((), None, 0)
    assert account_dots.dots([Compared((), {0: math.nan})], sign) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_what_has_diverged_does_not_hide_the_others(sign):
    near = {seed: sign * (1.0 + seed / 10) for seed in range(5)}
    found = account_dots.dots(
        [Compared(("a",), near), Compared(("b",), {0: sign * 1e10, 1: sign * 1.2})], sign
    )
    assert [row.beyond for row in found.rows] == [0, 1]
    assert max(found.rows[0].dots) - min(found.rows[0].dots) == 100 - account_dots.EDGE - account_dots.ROOM
    assert found.rows[1].mean is None


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.381, 0.452), (-7.5, -0.2), (1e-9, 3e-9), (1e12, 3e12), (-1, 1), (0.1, 0.1 + 1e-9), (99, 101)],
)
def test_ticks_are_few_round_numbers_between_the_ends(low, high):
    found = [float(text) for _, text in account_dots.ticks(low, high)]
    assert 1 <= len(found) <= account_dots.MOST_TICKS
    assert len(set(found)) == len(found)
    slack = 1e-6 * (high - low)
    assert all(low - slack <= value <= high + slack for value in found)
    assert found == pytest.approx(
        [value for value, _ in account_dots.ticks(low, high)], abs=1e-3 * (high - low)
    )
    steps = {float(f"{after - before:.1g}") for before, after in itertools.pairwise(found)}
    assert len(steps) <= 1


def test_equal_values_have_one_tick():
    assert account_dots.ticks(0.5, 0.5) == [(0.5, "0.5")]
    found = account_dots.dots([Compared((), {0: 0.5, 1: 0.5})], 1)
    assert found.rows[0].dots == (50.0, 50.0)


def test_the_first_stages_begin_with_the_default():
    chapters = (
        Chapter("seed", "", "", "", compared=(Compared((), {0: 1.0}),)),
        Chapter("init", "", "", "", overrides=("init=a",), compared=(Compared((), {0: 1.0}),)),
        Chapter("scheduler", "", "", "", compared=(Compared((), {0: 1.0}),)),
    )
    rows = [row[0] for table in tables(markdown(Account("val/loss", 1, chapters)))[1:] for row in table[1:]]
    assert rows == ["the default", "the default", "as decided before"]
