"""What is written down of a run: its config, and what TensorBoard shows of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper

from sweepwise.store.request import Request

Hparam = bool | int | float | str


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """libyaml's, ten times as fast as OmegaConf's; quotes what OmegaConf would read as a number or a bool."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)


def config_text(config: Mapping[str, Any]) -> str:
    """A config of plain values as yaml, as OmegaConf.to_yaml would write it."""
    text: str = yaml.dump(
        dict(config), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )
    return text


def texts(request: Request, config: str, environment: Mapping[str, Any]) -> dict[str, str]:
    """What TensorBoard's text tab shows: config, overrides, environment.

    Args:
        request: the run.
        config: its own, as yaml.
        environment: see `provenance.environment`.
    """
    return {
        "run/config": f"```yaml\n{config}```",
        "run/overrides": "\n".join(f"- `{override}`" for override in request.overrides) or "none",
        "run/environment": f"```json\n{json.dumps(environment, indent=2)}\n```",
    }


def hparams(request: Request) -> dict[str, Hparam]:
    """The settings as TensorBoard's HParams tab takes them: no nulls, no lists."""
    chosen: dict[str, Hparam] = {group: str(option) for group, option in request.choices.items()}
    for group, node in request.config.items():
        if isinstance(node, Mapping) and group != "monitor":
            chosen |= dict(_leaves(group, node))
    return chosen


def _leaves(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Hparam]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{path}.{key}", value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{path}.{key}", str(list(value))
        elif value is not None and key != "_target_":
            yield f"{path}.{key}", value
