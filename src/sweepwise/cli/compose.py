"""Requests from overrides, from composed configs and from the folders of runs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, UnsupportedInterpolationType
from yaml import YAMLError

from sweepwise.cli import guard, hooks
from sweepwise.cli.checks import PARAMS, check_shape, interpolations, params_fault
from sweepwise.cli.environment import with_numbers
from sweepwise.cli.faults import explain
from sweepwise.cli.options import BASE, Confs
from sweepwise.cli.unheeded import Unheeded
from sweepwise.errors import UsageError, did_you_mean, shell_override
from sweepwise.store import record
from sweepwise.store.request import Request


def composed(overrides: Sequence[str], conf: Path) -> Request:
    """The run that overrides describe, as `train.py` would compose it; for scripts and notebooks.

    Args:
        overrides: such as 'init=xavier'.
        conf: the folder of the config groups.

    Raises:
        UsageError: Hydra cannot compose them.
    """
    hooks.install()
    try:
        with initialize_config_dir(str(conf.resolve()), **BASE):
            config = compose("train", list(overrides), return_hydra_config=True)
        hydra = config.hydra
        with open_dict(config):
            del config["hydra"]
        return request_of(config, list(overrides), dict(hydra.runtime.choices))
    except (HydraException, OmegaConfBaseException) as error:
        raise refusal(error, overrides) from error


def _items(value: str) -> str | list[str]:
    """A value, or the items of one that is written as a list; commas in parentheses part none."""
    if not (value.startswith("[") and value.endswith("]")):
        return value
    return [item.strip().strip("'\"") for item in re.split(r",(?![^(]*\))", value[1:-1])]


def refusal(error: Exception, overrides: Sequence[str], confs: Confs | None = None) -> UsageError:
    """The error to raise when Hydra cannot compose overrides.

    Args:
        error: Hydra's or OmegaConf's.
        overrides: those that were given.
        confs: what Hydra finds; None: what it found when it raised the error.
    """
    if isinstance(error, (guard.Foreign, Unheeded)):
        return UsageError(str(error).splitlines())
    if isinstance(error, OverrideParseException):
        key, equals, value = str(error.override).partition("=")
        if not equals:
            return UsageError([f"{key}: must be KEY=VALUE"])
        written = _quoted(error.override) if "${" in value else shell_override(key, _items(value))
        # Since 1.4 a line before it repeats every override.
        why = next(line for line in str(error).split("\n") if not line.startswith("Error when parsing index"))
        return UsageError([f"{error.override}: cannot be read ({why}); it may need quotes: {written}"])
    message = _told(error)
    confs = confs or hooks.confs_of(error)
    if not confs:
        return UsageError([message])
    name = confs.config_name
    if name and not confs.repository.config_exists(name):
        there = [other for other in confs.repository.get_group_options("") if not other.startswith("_")]
        return UsageError([f"{message.rstrip('.')}; {did_you_mean(name, there)}" if there else message])
    return UsageError(explain(message, overrides, confs).splitlines())


def _told(error: Exception) -> str:
    """What Hydra says, in one line, with a way out."""
    message = " ".join(str(error).split("\n\n")[0].split())
    sweep = re.match(
        "(?:Ambiguous value for argument|Sweep parameters|Sweeping over Hydra's .* :) '(.*?)'(?:$| )", message
    )
    given = sweep[1].lstrip("+") if sweep else ""
    if sweep and given.startswith("hydra/"):
        return f"{sweep[1]}: must be one option; it cannot be swept over"
    if given.startswith(PARAMS):
        return params_fault(given)
    if sweep and given.startswith("hydra."):
        quoted = _quoted(sweep[1])
        return f"{sweep[1]}: cannot be swept over; one value that has commas in it needs quotes: {quoted}"
    if sweep:
        return (
            f"{sweep[1]}: several values are a sweep; add -m to the command"
            f" (one text that is written so needs quotes: {_quoted(sweep[1])})"
        )
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        option = error.missing_cfg_file.rpartition("/")[2]
        return f"{message}; {did_you_mean(option, error.options)}"
    if cause := error.__cause__:
        why = str(cause).partition("\n")[0]
        message = f"{message}: {why}" if message and why not in message else message or why
    return message


def _quoted(override: str) -> str:
    key, _, value = override.partition("=")
    return f"'{key}=\"{value}\"'"


def recorded(folder: Path) -> Request:
    """The request for the run whose folder this is; for scripts.

    Raises:
        UsageError: it is not the folder of a run that has begun.
    """
    hooks.install()
    known = record.read(folder)
    try:
        config = OmegaConf.load(folder / "config.yaml")
        if not known or not isinstance(config, DictConfig):
            raise ValueError("it has no record" if not known else "config.yaml holds no keys")
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        # Since 1.4 a line before it repeats every override.
        why = next(line for line in str(error).split("\n") if not line.startswith("Error when parsing index"))
        raise UsageError([f"{folder}: is not the folder of a run that has begun ({why})"]) from error
    if record.from_python(known):
        raise UsageError(
            [f"{folder}: was trained from Python, so no config trains it again; build its parts and fit them"]
        )
    return request_of(config, known["overrides"], {})


def chosen(choices: Mapping[str, str | None]) -> dict[str, str]:
    """The chosen options of our own groups, without those of Hydra."""
    return {group: option for group, option in choices.items() if option and not group.startswith("hydra")}


def request_of(config: DictConfig, overrides: Sequence[str], choices: Mapping[str, str | None]) -> Request:
    """The run that a composed config describes.

    Args:
        config: without Hydra's own part.
        overrides: of the command line.
        choices: Hydra's, of all groups.

    Raises:
        UsageError: something in it is missing, or cannot be resolved.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        rule = str(error).splitlines()[0]
        if isinstance(error, MissingMandatoryValue):
            rule = "must be given"
        elif isinstance(error, UnsupportedInterpolationType):
            rule += '; one of a package of yours is found where code names it: main(train, packages=["NAME"])'
        raise UsageError([f"{error.full_key}: {rule}"]) from error
    written = OmegaConf.to_container(config)
    assert isinstance(plain, dict) and isinstance(written, dict)
    plain = with_numbers(plain, written, written)
    request = Request({str(key): value for key, value in plain.items()}, overrides, chosen(choices))
    check_shape(request.config, interpolations(written))
    return request
