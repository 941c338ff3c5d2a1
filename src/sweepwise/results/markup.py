"""Texts that stand in Markdown as they are, and commands as code."""

from __future__ import annotations

import re

LINE_ENDS = re.compile(r"\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
COMMANDS = ("next", "more", "try")  # keys of passages whose text is a command


def escaped(text: str) -> str:
    """A text in which no character means anything to Markdown."""
    return re.sub(r"([\\`*_<>\[\]|#])", r"\\\1", text)


def one_line(text: str) -> str:
    """A text whose line ends are spaces."""
    return LINE_ENDS.sub(" ", text)


def code(text: str) -> str:
    """A text as code, whatever it holds: its fence is longer than any backticks in it.

    Source: code spans of CommonMark 0.31.2, section 6.1.

    Example:
        >>> code("python train.py"), code("x=`a`")
        ('`python train.py`', '`` x=`a` ``')
    """
    line = one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    stripped = line.startswith(" ") and line.endswith(" ") and line.strip()
    pad = " " if stripped or line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
