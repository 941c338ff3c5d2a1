"""How a run's settings are written down: as YAML, and for TensorBoard's Text and HParams tabs."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper

from sweepwise.monitor.hparams import Hparam, settings
from sweepwise.store.request import Request


@dataclass(frozen=True)
class Description:
    """A run's settings in the forms in which they are written once, when the run starts.

    Attributes:
        yaml: the config, for config.yaml.
        texts: config, overrides and environment in Markdown, by tag, for the Text tab.
        hparams: the settings for the HParams tab.
    """

    yaml: str
    texts: Mapping[str, str]
    hparams: Mapping[str, Hparam]


def describe(request: Request, environment: Mapping[str, Any]) -> Description:
    """Describes a run.

    Args:
        request: the run.
        environment: see `provenance.environment`.
    """
    text = config_text(request.config)
    hparams = settings(request.choices, request.config)
    return Description(yaml=text, texts=_texts(request, text, environment), hparams=hparams)


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """libyaml's dumper, ten times as fast as OmegaConf's; quotes texts that look like numbers or booleans."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)


def config_text(config: Mapping[str, Any]) -> str:
    """A config of plain values as YAML, exactly as OmegaConf.to_yaml would write it.

    Its text is that of its groups, one after the other, and runs of a sweep share most of these.
    """
    return "".join(_entry_text(_Entry(key, value)) for key, value in config.items()) or "{}\n"


class _Entry:
    """A key of a config with its value; equal to another one that is written in the same way."""

    def __init__(self, key: str, value: Any) -> None:
        self.key, self.value = key, value
        self._text = repr((key, value))

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Entry) and self._text == other._text


@functools.lru_cache(maxsize=256)
def _entry_text(entry: _Entry) -> str:
    text: str = yaml.dump(
        {entry.key: entry.value},
        Dumper=_Dumper,
        default_flow_style=False,
        allow_unicode=True,
        sort_keys=False,
    )
    return text


def _texts(request: Request, config: str, environment: Mapping[str, Any]) -> dict[str, str]:
    """Config (already YAML), overrides and environment for TensorBoard's Text tab."""
    return {
        "run/config": f"```yaml\n{config}```",
        "run/overrides": "\n".join(f"- `{override}`" for override in request.overrides) or "none",
        "run/environment": f"```json\n{json.dumps(environment, indent=2)}\n```",
    }
