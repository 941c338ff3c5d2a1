"""What is wrong with a search space, in English and Chinese, and the command that puts it right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sweepwise.results.languages import Both, by_language

Kind = Literal["cut off", "patience", "edge", "coarse", "divergence", "few seeds", "no baseline", "no effect"]
ORDER: tuple[str, ...] = get_args(Kind)  # the most important first
LEVEL = 0.05  # share of sweeps without a fault in which a kind may find one


@dataclass(frozen=True)
class Finding:
    """A fault of a search space.

    Attributes:
        kind: which one; docs/critique.md has the rule of each.
        text: what is wrong and what would help.
        evidence: the numbers that say so.
        command: that does what the text advises; '' where the runs were not trained by a command.
    """

    kind: Kind
    text: Both
    evidence: Both
    command: str


def as_content(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as plain data, such as the page of a sweep takes them."""
    return [
        {
            "kind": one.kind,
            "text": by_language(one.text),
            "evidence": by_language(one.evidence),
            "command": one.command,
        }
        for one in findings
    ]


def passages(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Findings as a key and a text each, and their commands, as a terminal prints them."""
    said: list[tuple[str, str]] = []
    for one in findings:
        said.append((one.kind, f"{one.text} ({one.evidence})"))
        if one.command:
            said.append(("try", one.command))
    return said
