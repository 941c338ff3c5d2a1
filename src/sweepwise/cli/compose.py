"""Requests from overrides, from composed configs and from the folders of runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from sweepwise.cli import guard, options
from sweepwise.cli.faults import check_shape, explain, option_faults
from sweepwise.errors import UsageError
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
    guard.install()
    confs = options.folders(conf, overrides)
    if faults := option_faults(overrides, confs):
        raise UsageError(faults)
    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            config = compose("train", list(overrides), return_hydra_config=True)
        hydra = config.hydra
        with open_dict(config):
            del config["hydra"]
        return request_of(config, list(overrides), dict(hydra.runtime.choices))
    except (HydraException, OmegaConfBaseException) as error:
        raise refusal(error, overrides, confs) from error


def refusal(error: Exception, overrides: Sequence[str], confs: Sequence[Path]) -> UsageError:
    """The error to raise when Hydra cannot compose overrides.

    Args:
        error: Hydra's or OmegaConf's.
        overrides: those that were given.
        confs: folders of the config groups.
    """
    if isinstance(error, guard.Foreign):
        return UsageError([str(error)])
    message = str(error).partition("\n")[0]
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        message = f"{error.override}: cannot be read ({message}); it may need quotes: '{key}=\"{value}\"'"
    elif message.startswith("Sweeping over Hydra's configuration"):
        override = message.partition(": ")[2].strip("'\"")
        key, _, value = override.partition("=")
        quoted = f"'{key}=\"{value}\"'"
        message = f"{override}: cannot be swept over; one value that has commas in it needs quotes: {quoted}"
    return UsageError(explain(message, overrides, confs).splitlines())


def recorded(folder: Path) -> Request:
    """The request for the run whose folder this is; for scripts.

    Raises:
        UsageError: it is not the folder of a run that has begun.
    """
    guard.install()
    known = record.read(folder)
    try:
        config = OmegaConf.load(folder / "config.yaml")
        if not known or not isinstance(config, DictConfig):
            raise ValueError("it has no record" if not known else "config.yaml holds no keys")
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        why = str(error).partition("\n")[0]
        raise UsageError([f"{folder}: is not the folder of a run that has begun ({why})"]) from error
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
        raise UsageError([f"{error.full_key}: {rule}"]) from error
    assert isinstance(plain, dict)
    request = Request({str(key): value for key, value in plain.items()}, overrides, chosen(choices))
    check_shape(request.config)
    return request
