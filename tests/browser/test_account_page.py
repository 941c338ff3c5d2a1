"""The page of a guided search in a browser: it fits a phone, and all eyes and readers can read it."""

import accounts
import pytest

from sweepwise.search.guided.account_page import html

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
ACCOUNTS = {**accounts.several(), "hostile": accounts.hostile("</td><script>alert(1)</script>" + "x" * 200)}


@pytest.fixture
def opened(browser, tmp_path):
    """Opens pages that must not complain, open a dialog or ask for anything but their own file."""
    contexts, complaints = [], []

    def open_page(which, viewport, **options):
        path = tmp_path / "page.html"
        path.write_text(html(ACCOUNTS[which], "best"))
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda asked: asked.url != path.as_uri() and complaints.append(asked.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("which", ACCOUNTS)
def test_nothing_is_wider_than_the_window(opened, which):
    for viewport in (PHONE, DESK):
        page = opened(which, viewport)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["whole", "no values"])
def test_axe_finds_nothing(opened, which, scheme, viewport):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(which, viewport, color_scheme=scheme)
    # axe is a script, which the policy of the page refuses: it runs in a copy without the policy.
    page.set_content(html(ACCOUNTS[which], "best").replace('http-equiv="Content-Security-Policy"', "hidden"))
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"], one["nodes"][0]["failureSummary"]) for one in found] == []


def test_dots_are_inside_of_their_row_also_on_paper(opened):
    page = opened("whole", DESK)
    for media in ("screen", "print"):
        page.emulate_media(media=media)
        outside = page.evaluate(
            """() => [...document.querySelectorAll("circle")].filter(dot => {
                const box = dot.getBoundingClientRect(), cell = dot.closest("td").getBoundingClientRect();
                return box.left < cell.left || box.right > cell.right
                    || box.top < cell.top || box.bottom > cell.bottom;
            }).length"""
        )
        assert outside == 0
