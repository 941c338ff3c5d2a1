"""The options of the config groups and their keys, from Hydra's own repository of configs.

So whatever Hydra finds is found: in conf/, in packages, in --config-dir, in `hydra.searchpath` of a command
or primary config; and the keys of an option are those that Hydra composes from its defaults list.
"""

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import __version__, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import GroupDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweepwise.config.groups import EXPERIMENT

# Hydra 1.3 behaves as 1.1 did unless it is told otherwise; 1.4 warns of being told.
BASE = {"version_base": "1.3"} if __version__.startswith("1.3.") else {}
HYDRAS = ("hydra", "schema")  # sources with Hydra's own configs, and those that code has stored
UNFIT = (HydraException, OmegaConfBaseException, ValueError)  # what Hydra raises where it cannot compose
Keys = dict[str, Any]


class Confs:
    """The configs that Hydra finds for a command.

    Args:
        loader: Hydra's, with the search path of the command.
        config_name: of the primary config.
        overrides: of the command; `hydra.searchpath` among them adds to the search path.
    """

    def __init__(
        self, loader: ConfigLoader, config_name: str | None = "train", overrides: Sequence[str] = ()
    ) -> None:
        assert isinstance(loader, ConfigLoaderImpl)
        self.loader, self.config_name = loader, config_name
        self._parser = OverridesParser.create(config_loader=loader)
        search = [str(word.input_line) for word in self.parsed(overrides) if word.key_or_group == SEARCH_PATH]
        _, self.repository = loader._parse_overrides_and_create_caching_repo(config_name, search)
        self._chosen: dict[tuple[str, ...], dict[str, str]] = {}
        self._contents: dict[tuple[str, str], Keys] = {}
        self._options: dict[str, list[str]] = {}

    def parsed(self, overrides: Sequence[str]) -> list[Override]:
        """Overrides as Hydra reads them, without those that it cannot read."""
        return [word for override in overrides for word in self._parsed(override)]

    def _parsed(self, override: str) -> Iterator[Override]:
        try:
            yield from self._parser.parse_overrides([override])
        except HydraException:
            return

    def source(self, path: str) -> ConfigSource | None:
        """The source from which Hydra takes a config: the first that has it."""
        return next((one for one in self.repository.get_sources() if one.is_config(path)), None)


SEARCH_PATH = "hydra.searchpath"


def of_folder(conf: Path) -> Confs:
    """The configs of a folder with config groups, and of Hydra."""
    with initialize_config_dir(str(conf.resolve()), **BASE):
        return Confs(GlobalHydra.instance().config_loader())


def options_of(confs: Confs, group: str) -> list[str]:
    """The options of a group, sorted; those in groups of its own (vision/small) if they can stand for it."""
    if group not in confs._options:
        confs._options[group] = sorted(set(_found(confs, group, "")))
    return confs._options[group]


def _found(confs: Confs, group: str, inner: str) -> Iterator[str]:
    for source in confs.repository.get_sources():
        path = f"{group}/{inner}".rstrip("/")
        if (group.startswith("hydra/") and source.provider in HYDRAS) or not source.is_group(path):
            continue
        for name in source.list(path, ObjectType.CONFIG):
            if not inner or group == EXPERIMENT or "_target_" in content_of(confs, group, inner + name):
                yield inner + name
        for name in source.list(path, ObjectType.GROUP):
            yield from _found(confs, group, f"{inner}{name}/")


def groups_of(confs: Confs, above: str = "") -> Iterator[str]:
    """The config groups, those within others too (model/act), without Hydra's."""
    for name in confs.repository.get_group_options(above, ObjectType.GROUP):
        path = f"{above}/{name}".lstrip("/")
        if path.isprintable() and path not in ("hydra", "__pycache__"):
            yield path
            yield from groups_of(confs, path)


def exists(confs: Confs, group: str, option: str) -> bool:
    """Whether Hydra finds an option of a group."""
    return confs.repository.config_exists(f"{group}/{option}")


def text_of(confs: Confs, group: str, option: str) -> str:
    """The file of an option; of one that code has stored, its keys."""
    path = f"{group}/{option}"
    source = confs.source(path)
    assert source is not None, path
    text = _read(source, f"{path}.yaml")
    return OmegaConf.to_yaml(source.load_config(path).config) if text is None else text


def notes_of(confs: Confs, group: str, name: str) -> str:
    """A file beside the options of a group, from the first source that has one; '' if none has."""
    texts = (_read(source, f"{group}/{name}") for source in confs.repository.get_sources())
    return next((text for text in texts if text is not None), "")


def primary_of(confs: Confs) -> tuple[str, Keys]:
    """The primary config: its file, and its keys."""
    name = confs.config_name or ""
    source = confs.source(name)
    text = _read(source, f"{name.removesuffix('.yaml')}.yaml") if source else None
    loaded = confs.repository.load_config(name)
    return text or "", _plain(loaded.config) if loaded else {}


def _read(source: ConfigSource, name: str) -> str | None:
    if source.scheme() not in ("file", "pkg"):
        return None
    try:
        home = Path(source.path) if source.scheme() == "file" else resources.files(source.path)
        path = home.joinpath(name)
        return path.read_text() if path.is_file() else None
    except (ModuleNotFoundError, TypeError):
        return None


def chosen_options(confs: Confs, overrides: Sequence[Override] = ()) -> dict[str, str]:
    """The option of each group that Hydra chooses for a command, by its defaults lists.

    Overrides by which it cannot choose are left out.
    """
    good = [word for word in overrides if _chooses(confs, word)]
    lines = tuple(str(word.input_line) for word in good)
    if lines not in confs._chosen:
        confs._chosen[lines] = _chosen(confs, good)
    return confs._chosen[lines]


def _chosen(confs: Confs, good: list[Override]) -> dict[str, str]:
    for words in (good, []):
        try:
            made = create_defaults_list(
                confs.repository, confs.config_name, words, prepend_hydra=True, skip_missing=True
            )
            return {group: option for group, option in made.overrides.known_choices.items() if option}
        except UNFIT:
            continue
    return {}


def _chooses(confs: Confs, word: Override) -> bool:
    group = word.key_or_group
    if word.is_sweep_override() or word.is_delete() or not confs.repository.group_exists(group):
        return False
    return all(exists(confs, group, option) for option in named(word))


def named(word: Override) -> list[str]:
    """The options that an override of a group chooses: one, those of a list, or all that a sweep has."""
    if word.is_interval_sweep():
        return [str(word.input_line).partition("=")[2]]
    values: list[Any] = list(word.sweep_iterator()) if word.is_sweep_override() else [word.value()]
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [Override._get_value_element_as_str(Override._convert_value(item)) for item in items]


def content_of(confs: Confs, group: str, option: str) -> Keys:
    """The keys of an option with their values, as Hydra composes them when it is chosen."""
    if (group, option) not in confs._contents:
        confs._contents[group, option] = _composed(confs, group, option)
    return confs._contents[group, option]


def overridden_by(confs: Confs, group: str, option: str) -> Keys:
    """The options that the defaults list of a config overrides, by group."""
    try:
        loaded = confs.repository.load_config(f"{group}/{option}")
    except UNFIT:
        return {}
    entries = (loaded.defaults_list or ()) if loaded else ()
    found = [entry for entry in entries if isinstance(entry, GroupDefault) and entry.is_override()]
    return {str(entry.group).lstrip("/"): entry.value for entry in found}


def values_of(confs: Confs, group: str, option: str) -> Keys:
    """As `content_of`, without the target."""
    return {key: value for key, value in content_of(confs, group, option).items() if key != "_target_"}


def _composed(confs: Confs, group: str, option: str) -> Keys:
    path = f"{group}/{option}"
    try:
        loaded = confs.repository.load_config(path)
    except UNFIT:  # its file cannot be read
        return {}
    if not loaded:
        return {}
    if all(entry.is_self() for entry in loaded.defaults_list or ()):
        return _plain(loaded.config)
    choice = Override(OverrideType.ADD, group, ValueType.ELEMENT, option)
    try:
        made = create_defaults_list(confs.repository, None, [choice], prepend_hydra=False, skip_missing=True)
        config = confs.loader._compose_config_from_defaults_list(made.defaults, confs.repository)
        own = next(one for one in made.defaults if one.config_path == path)
        return _plain(OmegaConf.select(config, own.package) if own.package else config)
    except UNFIT:  # it overrides what only a primary config has
        return _plain(loaded.config)


def _plain(config: Any) -> Keys:
    plain = OmegaConf.to_container(config) if isinstance(config, DictConfig) else {}
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}
