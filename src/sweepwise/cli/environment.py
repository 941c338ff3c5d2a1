"""Values from environment variables: what is a number or a truth value there is one in the config.

`optimizer.lr=${oc.env:LR}` means what `optimizer.lr=$LR` means, read by the same grammar. A text with a
variable in it (`${oc.env:USER}-1`) stays a text; `${oc.decode:${oc.env:SIZES}}` reads lists and all else.
"""

import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

VARIABLE = re.compile(r"\$\{oc\.env:[^{}]*\}")
KEY = re.compile(r"\$\{([^{}:]+)\}")


def with_numbers(value: Any, written: Any, root: Mapping[Any, Any]) -> Any:
    """A resolved value in which texts of environment variables are numbers, where they are.

    Args:
        value: resolved.
        written: the same, unresolved.
        root: the whole config, unresolved.
    """
    while isinstance(written, str) and (key := KEY.fullmatch(written)):
        written = _at(root, key[1])
    if isinstance(value, dict) and isinstance(written, Mapping):
        return {name: with_numbers(item, written.get(name), root) for name, item in value.items()}
    if isinstance(value, list) and isinstance(written, list):
        return [with_numbers(item, own, root) for item, own in zip(value, written, strict=True)]
    if isinstance(value, str) and isinstance(written, str) and VARIABLE.fullmatch(written):
        return _number(value)
    return value


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _number(text: str) -> Any:
    try:
        value = OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return text
    return value if isinstance(value, (bool, int, float)) else text
