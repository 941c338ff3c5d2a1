"""One HTML file of a page's content: styles, scripts, plotting library and data all inside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweepwise.results.page.texts import STATUSES, TEXTS

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"
LIBRARY = ASSETS / "echarts" / "echarts.min.js"  # ECharts as published: LICENSE and NOTICE lie beside it
# Of a page that shows a whole folder as it is, which the next sweep's end replaces
AUTOMATIC = '<meta name="generator" content="sweepwise: all runs of the folder">'
# In the order in which they need each other; all of them share one scope.
SCRIPTS = (
    "data",
    "intervals",
    "runs",
    "leaderboard",
    "drawing",
    "lines",
    "grids",
    "parallel",
    "bars",
    "points",
    "page",
)
STYLES = ("page", "parts", "tables")
LANGUAGES = {"en": "en", "zh": "zh-Hans"}  # as the attribute `lang` has it
# What would end a script element, open a comment in it or break a line of JavaScript.
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def html(content: Mapping[str, Any], language: Literal["en", "zh"] = "en") -> str:
    """The page of a sweep as one HTML file that opens offline.

    Args:
        content: what stands on it, plain data without NaN (`content.content`).
        language: in which it opens; a switch on it shows the other one.

    Raises:
        ValueError: if a number of the content is not finite.
    """
    texts = {key: dict(zip(LANGUAGES, both, strict=True)) for key, both in TEXTS.items()}
    library, scripts = LIBRARY.read_text(), _scripts()
    return _template().render(
        content=content,
        automatic=AUTOMATIC if content["automatic"] else "",
        language=language,
        lang=LANGUAGES[language],
        style="\n".join((ASSETS / f"{name}.css").read_text() for name in STYLES),
        hashes=" ".join(f"'{_integrity(script)}'" for script in (scripts, library)),
        scripts=scripts,
        library=library,
        content_json=embedded(content),
        texts_json=embedded(texts),
    )


def embedded(data: object) -> str:
    r"""Data as JSON that can stand inside a script element, whatever its texts contain.

    Example:
        >>> embedded({"name": "</script>"})
        '{"name":"\\u003c/script\\u003e"}'
    """
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(ESCAPES)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # 0.1 s to import

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(t=_word, say=_said, knows=TEXTS.__contains__, status_word=_status)
    return environment.get_template("page.html.j2")


def _word(key: str, **values: object) -> Markup:
    """A text of the page in both languages, of which the styles show one."""
    return _said({code: text.format(**values) for code, text in zip(LANGUAGES, TEXTS[key], strict=True)})


def _status(status: str) -> str:
    return _word(status) if status in STATUSES else status


def _said(sentence: Mapping[str, str]) -> Markup:
    from markupsafe import Markup

    parts = (
        Markup('<span class="t" lang="{}">{}</span>').format(lang, sentence[code])
        for code, lang in LANGUAGES.items()
    )
    return Markup("").join(parts)


def _scripts() -> str:
    """All scripts of the page in one scope of their own."""
    texts = (ASSETS / "scripts" / f"{name}.js" for name in SCRIPTS)
    return "\n".join(['(() => {\n"use strict";', *(path.read_text() for path in texts), "})();\n"])


def _integrity(script: str) -> str:
    """By which the page's policy knows a script: any other one is not run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
