"""The page of a sweep in a browser: what is drawn, what mouse and keyboard do, who can read it."""

import page_content
import pytest
from playwright.sync_api import expect

from sweepwise.results.page.render import html
from sweepwise.results.page.texts import TEXTS

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
NAMES = (page_content.HTML, page_content.LONG, "xavier", "kaiming")


def with_map(cells, boundary):
    """A sweep of which one map of 3 x 3 settings has these means and this boundary; higher is better."""
    found = page_content.content(40, failures=True)
    metric = {"tag": "val/r2", "better": "higher", "percent": False}
    keys = {"x_key": "init", "y_key": "lr", "x": ["a", "b", "c"], "y": ["1", "2", "3"]}
    return found | {"metric": metric, "heatmaps": [{**keys, "cells": cells, "boundary": boundary}]}


NINE = [(x, y) for x in range(3) for y in range(3)]
SWEEPS = {
    "best-is-0": lambda: with_map([[x, y, -0.2 * x * y, 3, 0] for x, y in NINE], [[2, 2], [2, 1]]),
    "all-0": lambda: with_map([[x, y, 0, 3, 0] for x, y in NINE], [[1, 1]]),
    "plain": lambda: page_content.content(),
    "failures": lambda: page_content.content(40, failures=True, names=NAMES),
    "begun": page_content.begun,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A page of each sweep."""
    folder = tmp_path_factory.mktemp("pages")
    for name, content in SWEEPS.items():
        (folder / f"{name}.html").write_text(html(content()))
    return folder


@pytest.fixture
def opened(browser, files, tmp_path, request):
    """Opens pages that must not complain, open a dialog or ask for anything but their own file."""
    contexts, complaints = [], []

    def watch(page, url):
        page.on("console", lambda said: said.type in ("error", "warning") and complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda asked: asked.url.split("#")[0] != url and complaints.append(asked.url))

    def open_page(sweep="plain", viewport=DESK, **options):
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        url = (files / f"{sweep}.html").as_uri()
        watch(page, url)
        page.goto(url)
        return page

    yield open_page
    for place, context in enumerate(contexts):
        context.pages[0].screenshot(path=tmp_path / f"{request.node.name}{place}.png")
        context.close()
    assert complaints == []


def draw_all(page):
    """Scrolls to every chart, so that it is drawn."""
    charts = page.locator("figure.chart")
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
        expect(chart).to_have_attribute("data-drawn", "true")
    return charts


def rows(page):
    return page.locator("#settings tr.setting")


def first_places(page, count=5):
    return [int(row.get_attribute("data-place")) for row in rows(page).all()[:count]]


def standing(page, listed, everything, hidden):
    words = TEXTS["standing"][0].format(listed=listed, all=everything, hidden=hidden)
    expect(page.locator("#standing")).to_have_text(words)


@pytest.mark.parametrize("sweep", ["plain", "failures"])
def test_every_chart_is_drawn(opened, sweep):
    page = opened(sweep)
    charts = draw_all(page)
    assert charts.count() == (13 if sweep == "plain" else 16)
    for chart in charts.all():
        name = chart.get_attribute("data-chart")
        assert chart.locator(".plot svg path").count() >= 4, name
        assert chart.locator(".plot").get_attribute("aria-label"), name


def test_a_sweep_that_has_just_begun(opened):
    page = opened("begun")
    draw_all(page)
    expect(page.get_by_text(TEXTS["incomplete"][0])).to_be_visible()
    rows(page).nth(3).locator(".opener").click()
    expect(page.locator("tr.opened tbody td").nth(2)).to_have_text(TEXTS["running"][0])
    for left in (3, 2, 1, 0):
        rows(page).first.get_by_role("checkbox").click()
        standing(page, left, 4, 4 - left)
    expect(page.locator("[data-chart=curves] .plot")).to_have_text(TEXTS["empty_chart"][0])


def test_a_chart_waits_until_it_is_in_view(opened):
    page = opened()
    expect(rows(page)).to_have_count(24)
    assert page.locator("[data-chart=replay]").get_attribute("data-drawn") is None


def test_the_table_sorts(opened):
    page = opened()
    head = page.locator("th[data-sort=mean]")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert first_places(page) == [0, 1, 2, 3, 4]
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert first_places(page) == [23, 22, 21, 20, 19]
    expect(page.locator("[aria-sort]")).to_have_count(1)


def test_numbers_among_settings_sort_as_numbers(opened):
    page = opened()
    page.locator("th[data-sort='key 0'] button").click()
    shown = [float(text) for text in page.locator("#settings tr.setting td:nth-child(3)").all_inner_texts()]
    assert shown == sorted(shown) and len(set(shown)) > 2


def test_the_table_filters(opened):
    page = opened()
    field = page.get_by_role("searchbox")
    field.fill("xavier 0.0001")
    found = sum(
        one["setting"][1] == "xavier" and "0.0001" in one["name"] for one in page_content.content()["ranking"]
    )
    standing(page, found, 24, 0)
    field.fill("no such setting")
    expect(page.get_by_text(TEXTS["none_left"][0])).to_be_visible()


def test_hidden_settings_leave_table_and_charts(opened):
    page = opened()
    curves = page.locator("[data-chart=curves]")
    curves.scroll_into_view_if_needed()
    legend = curves.locator(".legend button")
    expect(legend).to_have_count(6)
    best, second = (legend.nth(place).inner_text() for place in (0, 1))
    rows(page).first.get_by_role("checkbox").click()
    standing(page, 23, 24, 1)
    expect(legend.first).to_have_text(second)
    expect(page.locator("#settings tr.setting input").first).to_be_focused()
    page.keyboard.press("Space")
    standing(page, 22, 24, 2)
    page.get_by_role("button", name=TEXTS["show_all"][0]).press("Enter")
    standing(page, 24, 24, 0)
    expect(legend.first).to_have_text(best)


def test_the_charts_show_what_the_filter_leaves(opened):
    page = opened()
    page.get_by_role("searchbox").fill("lsuv")
    page.get_by_role("button", name=TEXTS["hide_others"][0]).click()
    curves = page.locator("[data-chart=curves]")
    curves.scroll_into_view_if_needed()
    expect(curves.locator(".legend button").first).to_contain_text("lsuv")
    assert all("lsuv" in text for text in curves.locator(".legend button").all_inner_texts())
    page.get_by_role("searchbox").fill("")
    page.get_by_label(TEXTS["list_hidden"][0]).check()
    expect(rows(page)).to_have_count(24)


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_a_row_opens_its_runs(opened, how):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    if how == "mouse":
        rows(page).nth(1).locator("td").nth(1).click()
    else:
        rows(page).nth(1).locator(".opener").focus()
        page.keyboard.press("Enter")
    runs = page.locator("tr.opened[data-of='1']")
    expect(runs.locator("tbody tr")).to_have_count(5)
    command = runs.locator(".command code").nth(2).inner_text()
    assert command.startswith("python train.py ") and command.endswith(" seed.value=2")
    assert runs.locator("td > code").nth(2).inner_text().endswith(",seed.value=2-00000001")
    runs.locator(".copy").nth(2).press("Enter")
    expect(page.locator("#said")).to_have_text(TEXTS["copied"][0])
    assert page.evaluate("navigator.clipboard.readText()") == command
    rows(page).nth(1).locator(".opener").press("Enter")
    expect(runs).to_have_count(0)


def test_a_setting_stands_out_in_its_chart(opened):
    page = opened()
    curves = page.locator("[data-chart=curves]")
    curves.scroll_into_view_if_needed()
    expect(curves).to_have_attribute("data-drawn", "true")
    second = curves.locator(".legend button").nth(1)
    widest = """() => Math.max(...[...document.querySelectorAll('[data-chart=curves] path')]
        .map(path => path.getAttribute('stroke-width') || 0))"""
    usual = page.evaluate(widest)
    second.press("Enter")
    expect(second).to_have_attribute("aria-pressed", "true")
    # The page's own policy forbids what `wait_for_function` does when the condition does not hold at once.
    page.evaluate(
        f"""async usual => {{
            const end = performance.now() + 30000;
            while (({widest})() <= usual) {{
                if (performance.now() > end) throw new Error("no line became wider");
                await new Promise(requestAnimationFrame);
            }}
        }}""",
        usual,
    )


@pytest.mark.parametrize("chart", ["effects", "failures", "boundary", "stopping"])
def test_a_tooltip_shows_markup_as_text(opened, chart):
    page = opened("failures")
    figure = page.locator(f"[data-chart={chart}]")
    figure.scroll_into_view_if_needed()
    expect(figure).to_have_attribute("data-drawn", "true")
    plot = figure.locator(".plot")
    found = page.evaluate(
        """plot => {
            const chart = echarts.getInstanceByDom(plot), data = chart.getOption().series[0].data;
            for (const dataIndex of data.keys())
                chart.dispatchAction({ type: 'showTip', seriesIndex: 0, dataIndex });
            return plot.querySelector('div:last-child').textContent;
        }""",
        plot.element_handle(),
    )
    assert found
    assert page.locator(".plot img, .plot script").count() == 0
    assert page.title() == "outputs/main"


def option(page, chart, part):
    """A part of what a chart is drawn from."""
    figure = page.locator(f"[data-chart={chart}]").first
    figure.scroll_into_view_if_needed()
    expect(figure).to_have_attribute("data-drawn", "true")
    read = f"plot => echarts.getInstanceByDom(plot).getOption().{part}"
    return page.evaluate(read, figure.locator(".plot").element_handle())


def test_the_colours_of_a_map_end_at_its_best_value(opened):
    key = option(opened("best-is-0"), "heatmap", "visualMap[0]")
    assert (key["min"], key["max"]) == (pytest.approx(-0.8), 0)
    fills = "[data-chart=heatmap] .plot svg path[fill^='rgb']"
    page = opened("all-0")
    key = option(page, "heatmap", "visualMap[0]")
    assert (key["min"], key["max"]) == (0, 0)
    assert page.locator(fills).count() >= 9


@pytest.mark.parametrize(
    ("sweep", "lines"),
    [
        ("best-is-0", {(2, 1, 0, 1), (2, 2, 0, 1), (2, 1, 1, 0)}),
        ("all-0", {(1, 1, 0, 1), (2, 1, 0, 1), (1, 1, 1, 0), (1, 2, 1, 0)}),
    ],
)
def test_a_boundary_lies_between_cells_and_not_around_the_map(opened, sweep, lines):
    page = opened(sweep)
    for chart in ("heatmap", "boundary"):
        assert {tuple(line) for line in option(page, chart, "series[2].data")} == lines


@pytest.mark.parametrize("sweep", ["plain", "failures"])
def test_a_phone_scrolls_down_only(opened, sweep):
    page = opened(sweep, PHONE)
    draw_all(page)
    rows(page).first.locator(".opener").click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for box in page.locator(".plot").all():
        assert box.evaluate("box => box.scrollWidth <= box.clientWidth")


def lightness(page, selector="body"):
    """0 to 255, of what is behind an element's text."""
    colour = page.locator(selector).first.evaluate("one => getComputedStyle(one).backgroundColor")
    return sum(int(part) for part in colour.strip("rgb()").split(",")) / 3


def test_dark_follows_the_system_and_the_switch(opened):
    page = opened(color_scheme="dark")
    assert lightness(page) < 50
    page.locator("#theme").select_option("light")
    assert lightness(page) > 230
    page.locator("#theme").select_option("dark")
    page.emulate_media(color_scheme="light")
    assert lightness(page) < 50


def test_print_has_every_chart_on_light_paper(opened):
    page = opened("failures", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("figure.chart:not([data-drawn])").count() == 0
    assert lightness(page) > 230
    widths = page.locator(".plot svg").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().width)"
    )
    assert (
        len(widths) == 16 and max(widths) <= 680
    )  # A4 and Letter have 688 pixels or more within their margins
    assert not page.locator("nav").is_visible() and not page.locator(".controls").first.is_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert lightness(page) < 50
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.locator("html").get_attribute("class") == ""


def test_all_words_are_chinese_after_the_switch(opened):
    page = opened("failures")
    draw_all(page)
    page.locator("#language").select_option("zh")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.get_by_role("heading", name=TEXTS["leaderboard"][1], exact=True)).to_be_visible()
    seen = page.locator("body").inner_text() + "\n".join(page.locator("svg text").all_text_contents())
    lines = {line.strip() for line in seen.splitlines()}
    names = {"seed.value", "val/loss", "English"}
    assert not lines & ({english for english, _ in TEXTS.values()} - names)
    page.locator("#language").select_option("en")
    expect(page.get_by_role("heading", name=TEXTS["leaderboard"][0], exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("sweep", "viewport", "scheme", "language"),
    [
        ("failures", DESK, "light", "en"),
        ("failures", DESK, "dark", "en"),
        ("plain", DESK, "light", "zh"),
        ("plain", PHONE, "dark", "en"),
    ],
)
def test_axe_finds_nothing(opened, sweep, viewport, scheme, language):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(sweep, viewport, color_scheme=scheme)
    page.locator("#language").select_option(language)
    draw_all(page)
    rows(page).first.locator(".opener").click()
    rows(page).nth(2).get_by_role("checkbox").click()
    page.get_by_role("searchbox").fill("0")
    page.locator("[data-chart=curves] summary").click()
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"]) for one in found] == []


def test_the_best_that_is_said_is_the_first_of_the_ranking_with_what_new_seeds_may_give(opened):
    page = opened()
    first = page.locator("#leaderboard tbody tr").first.inner_text()
    said = page.locator("#best").inner_text()
    name, _, expected = said.removeprefix("Best: ").partition("; ")
    assert expected == "new seeds may give 0.30 [0.28, 0.32]"
    values = [part.partition("=")[2] for part in name.split(", ") if "=" in part]
    assert values and all(value in first for value in values), (said, first)
