"""Figures of the scripts: saved as a PNG file, and shown where there is a display, in the reader's language.

Labels are English. Where the locale asks for Chinese and a font for it is installed, they are Chinese.
"""

import contextlib
import functools
import locale
import os
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure


CHINESE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "SimHei")
COLOURS = 64  # of a PNG: enough for lines with smooth edges


@functools.cache
def chinese_font() -> str:
    """The font for Chinese labels; '' if the locale does not ask for them or none is installed."""
    asked = next((v for k in ("LC_ALL", "LC_MESSAGES", "LANG") if (v := os.environ.get(k))), "")
    if not (asked or locale.getlocale()[0] or "").startswith("zh"):
        return ""
    return _known_font() or _new_font()


def _known_font() -> str:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((font for font in CHINESE_FONTS if font in installed), "")


def _new_font() -> str:
    """A font that was installed after matplotlib had made its list of fonts, which it never renews."""
    from matplotlib import font_manager

    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for path in set(font_manager.findSystemFonts()) - listed:
        with contextlib.suppress(OSError, RuntimeError):  # a format that matplotlib does not read
            font_manager.fontManager.addfont(path)
    return _known_font()


def label(english: str, chinese: str) -> str:
    """The text in the reader's language."""
    return chinese if chinese_font() else english


def new(rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 4.8) -> "Figure":
    """An empty figure, without axes, in which Chinese can be written if `label` gives it.

    Args:
        rows: of panels that it will have; the figure is `height` inches high for each.
        columns: of panels; `width` inches for each.
        width: in inches.
        height: in inches.
    """
    if not has_display():
        matplotlib.use("Agg")
    from matplotlib import pyplot

    if font := chinese_font():
        matplotlib.rcParams["font.sans-serif"] = [font, *matplotlib.rcParams["font.sans-serif"]]
        matplotlib.rcParams["axes.unicode_minus"] = False
    return pyplot.figure(figsize=(width * columns, height * rows), layout="constrained")


def has_display() -> bool:
    """Whether a window could be opened."""
    return os.name == "nt" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def finish(figure: "Figure", path: Path) -> None:
    """Saves a figure, a PNG with a palette (a third of the size), says where, and shows it on a display."""
    from matplotlib import pyplot
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    if path.suffix == ".png":
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(COLOURS)
        small.save(path, optimize=True)
    print(f"figure        {path}", flush=True)
    if has_display():
        pyplot.show()
    pyplot.close(figure)
