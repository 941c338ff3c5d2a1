"""The page of a sweep as a file: what is in it, and that nothing of its content is anything but text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import page_content
import pytest

from sweepwise.results.critique.finding import ORDER
from sweepwise.results.page import render
from sweepwise.results.page.texts import STATUSES, TEXTS

# echarts 6.1.0, dist/echarts.min.js, as the npm registry has it
LIBRARY_SHA256 = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"
SCRIPTS = "\n".join((render.ASSETS / "scripts" / f"{name}.js").read_text() for name in render.SCRIPTS)
TEMPLATES = "\n".join(path.read_text() for path in sorted(render.ASSETS.glob("*.j2")))
STYLES = "\n".join((render.ASSETS / f"{name}.css").read_text() for name in render.STYLES)
HARMFUL = (page_content.HTML, page_content.LONG, "xavier", "a\u2028b\u2029c")


class Page(HTMLParser):
    """What a browser makes of a page: its elements, the texts of its scripts, all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text += data

    def with_attribute(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="module")
def harmless():
    return Page(render.html(page_content.content(failures=True)))


@pytest.fixture(scope="module")
def harmful():
    content = page_content.content(failures=True, names=HARMFUL)
    content |= {"title": page_content.HTML, "remarks": [page_content.both(page_content.HTML)]}
    content["critique"][0]["command"] = f"python train.py 'init={page_content.HTML}'"
    return Page(render.html(content))


def test_names_with_markup_are_text(harmless, harmful):
    assert [tag for tag, _ in harmful.elements] == [tag for tag, _ in harmless.elements]
    assert not [name for _, attributes in harmful.elements for name in attributes if name.startswith("on")]
    assert page_content.HTML in harmful.text
    assert f"python train.py 'init={page_content.HTML}'" in harmful.with_attribute("data-copy")


def test_data_comes_back_as_it_was(harmful):
    content = json.loads(harmful.scripts[0])
    assert {one["setting"][1] for one in content["ranking"]} == set(HARMFUL)
    assert content["title"] == page_content.HTML
    assert not re.search("[<>&\u2028\u2029]", harmful.scripts[0])


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        render.html(page_content.content() | {"confidence": float("nan")})


def test_only_its_own_scripts_run_and_nothing_is_asked_for(harmful):
    policy = next(attributes["content"] for tag, attributes in harmful.elements if "http-equiv" in attributes)
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in harmful.scripts[2:]
    ]
    assert len(hashes) == 2
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert sorted(rules["script-src"].split()) == sorted(f"'sha256-{one}'" for one in hashes)
    assert harmful.with_attribute("src") == []
    assert all(target.startswith(("#", "data:")) for target in harmful.with_attribute("href"))
    assert not re.search(r"url\(|@import", STYLES)


def test_the_library_is_the_published_one():
    assert hashlib.sha256(render.LIBRARY.read_bytes()).hexdigest() == LIBRARY_SHA256
    licence = (render.LIBRARY.parent / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Apache ECharts" in (render.LIBRARY.parent / "NOTICE").read_text()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_language_is_said(language):
    page = Page(render.html(page_content.content(), language))
    root = next(attributes for tag, attributes in page.elements if tag == "html")
    assert root["lang"] == {"en": "en", "zh": "zh-Hans"}[language]
    chosen = [
        attributes["value"]
        for tag, attributes in page.elements
        if tag == "option" and "selected" in attributes
    ]
    assert chosen == [language]


def test_every_text_has_both_languages_with_the_same_gaps():
    for key, (english, chinese) in TEXTS.items():
        assert english and chinese, key
        assert not re.search("[\u4e00-\u9fff]", english), key
        assert re.search("[\u4e00-\u9fff]", chinese), key
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), key


def test_every_text_that_is_used_is_there():
    used = set(re.findall(r'\bword\("([^"]+)"', SCRIPTS)) | set(re.findall(r'\bt\("([^"]+)"[,)]', TEMPLATES))
    used |= set(re.findall(r'data-(?:word|label)="([^"{}]+)"', TEMPLATES))
    assert used - set(TEXTS) == set()


def test_every_text_that_is_there_is_used():
    written = set(re.findall(r'"([\w ]+)"', SCRIPTS + TEMPLATES))
    filled_in = {*STATUSES, *ORDER, "lower", "higher"}  # by the content
    filled_in |= {"better", "equivalent", "undecided", "identical", "valueless", "unclaimed"}
    used = written | filled_in | {f"nav_{name}" for name in written}
    assert set(TEXTS) - used == set()


def test_a_status_that_nobody_knows_stands_as_it_is():
    text = render.html(
        page_content.content() | {"counts": {"made": 2, "constructor": 1, "<i>": 1, "failed": 3}}
    )
    page = Page(text)
    for status in ("2 made", "1 constructor", "1 <i>", "3 failed"):
        assert status in " ".join(page.text.split()), status


@pytest.mark.parametrize("automatic", [True, False])
def test_a_page_says_whether_a_sweep_may_replace_it(automatic):
    names = {"title": render.AUTOMATIC, "homes": render.AUTOMATIC}
    text = render.html(page_content.content() | names | {"automatic": automatic})
    assert text.count(render.AUTOMATIC) == automatic == (render.AUTOMATIC in text[:4096])


def test_a_sweep_without_anything_has_a_page():
    whole = page_content.content()
    kept = (
        "title",
        "made",
        "sweepwise",
        "metric",
        "counts",
        "keys",
        "replicates",
        "confidence",
        "about",
        "runs",
    )
    nothing = {
        key: None if value is None or isinstance(value, dict) else type(value)()
        for key, value in whole.items()
    }
    page = Page(render.html(nothing | {key: whole[key] for key in kept} | {"complete": False}))
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["verdicts", "critique"]
    assert TEXTS["incomplete"][0] in page.text and TEXTS["no_verdicts"][0] in page.text


def test_a_thousand_runs_take_two_megabytes():
    content = page_content.content(200, 5)
    assert len(content["runs"]["value"]) == 1000
    assert len(render.html(content).encode()) <= 2_000_000


def colours(name: str) -> list[tuple[str, str]]:
    """The values of colours whose names start so, in light and in dark."""
    return re.findall(rf"--{name}\d*: light-dark\((#\w{{6}}), (#\w{{6}})\)", STYLES)


def linear(colour: str) -> np.ndarray:
    """Linear red, green and blue of an sRGB colour (IEC 61966-2-1)."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """Of two colours (WCAG 2.2)."""
    high, low = sorted(
        (float(linear(one) @ [0.2126, 0.7152, 0.0722]) for one in (first, second)), reverse=True
    )
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ rgb / [0.9505, 1, 1.089], 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Linear RGB as it is seen with all cones, and without those of one kind: Machado, Oliveira and Fernandes, A
# Physiologically-based Model for Simulation of Color Vision Deficiency, IEEE TVCG 15 (2009), severity 1.
SIGHTS = {
    "all": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


@pytest.mark.parametrize("scheme", [0, 1])
def test_lines_are_told_apart_by_all_eyes(scheme):
    series, background = ([both[scheme] for both in colours(name)] for name in ("series", "panel"))
    assert len(series) == 8
    assert min(contrast(colour, background[0]) for colour in series) >= 3  # WCAG 1.4.11
    for sight, cones in SIGHTS.items():
        seen = [lab(np.clip(np.array(cones) @ linear(colour), 0, 1)) for colour in series]
        apart = [np.linalg.norm(a - b) for at, a in enumerate(seen) for b in seen[:at]]
        assert min(apart) >= 25, sight


@pytest.mark.parametrize("scheme", [0, 1])
def test_words_can_be_read(scheme):
    for behind in ("bg", "panel", "raised"):
        for name in ("text", "muted", "accent", "good", "bad", "warn"):
            pair = colours(name)[0][scheme], colours(behind)[0][scheme]
            assert contrast(*pair) >= 4.5, (name, behind)  # WCAG 1.4.3
