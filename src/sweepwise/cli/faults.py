"""Error messages for a command that cannot be composed: the faulty override, and what would have worked."""

import re
from collections.abc import Iterable, Mapping, Sequence

from hydra.core.override_parser.types import Override

from sweepwise.cli.checks import PARAMS, hydra_key_fault, params_fault
from sweepwise.cli.meant import meant
from sweepwise.cli.options import Confs, chosen_options, content_of, exists, named, options_of, values_of
from sweepwise.config.groups import EXPERIMENT, GROUPS, LAUNCHER, SETTINGS, SWEEPER
from sweepwise.errors import did_you_mean

# What to write instead of well-known launchers of others.
INSTEAD = {
    (LAUNCHER, "joblib"): "hydra/launcher=local hydra.launcher.max_parallel=2, for two processes at a time",
    (LAUNCHER, "submitit_slurm"): "hydra/launcher=slurm hydra.launcher.partition=NAME",
    (LAUNCHER, "submitit_local"): "hydra/launcher=slurm hydra.launcher.cluster=local",
}

# What Hydra says of a group that two defaults lists choose.
TWICE = re.compile(
    r"(\S+) appears more than once in the final defaults list"
    r"|Multiple values for ([^\s.]+)\.(?: To override a value use 'override \S+ (.*)')?"
)


def choice_faults(overrides: Iterable[Override], confs: Confs) -> list[str]:
    """Faults of the options that a sweep chooses, which Hydra would find run by run."""
    return [
        fault
        for word in overrides
        if word.is_discrete_sweep() and confs.repository.group_exists(word.key_or_group)
        for fault in [_options_fault(word, confs)]
        if fault
    ]


def explain(message: str, overrides: Sequence[str], confs: Confs) -> str:
    """What is wrong with the overrides that Hydra has refused, and what would have worked.

    Args:
        message: Hydra's own, which is used if no fault is found in an override.
        overrides: of the command line.
        confs: what Hydra finds for it.
    """
    words = confs.parsed(overrides)
    chosen = chosen_options(confs, words)
    faults = (_several_fault(word, words, confs) or _fault(word, chosen, confs) for word in words)
    told = "\n".join(fault for fault in faults if fault and fault != NO_FAULT)
    return told or _unset(message, words) or message


def _unset(message: str, words: Sequence[Override]) -> str:
    """Says who sets a key that only some swept options have, or where; '' of another message of Hydra's."""
    if twice := TWICE.match(message):
        group, option = twice[1] or twice[2], twice[3] or "OPTION"
        way_out = f"end the later one with '- override /{group}: {option}'"
        return f"{group}: is chosen by two defaults lists; {way_out}, or leave it out there"
    for word in words:
        if word.key_or_group.startswith(PARAMS) and message.startswith(
            f"Could not override '{word.key_or_group}'"
        ):
            return params_fault(str(word.input_line))
    found = re.match(r"Could not override '(([\w-]+)\.[^']*)'", message)
    if not found or not any(word.key_or_group == found[2] and word.is_choice_sweep() for word in words):
        return ""
    ways = "hydra/sweeper=grid or hydra/launcher=local, the defaults,"
    return f"{found[1]}: not every swept option has such a key; {ways} set it where it is"


NO_FAULT = "none"
THERE = "is there already; write it without the +"


def _several_fault(word: Override, words: Iterable[Override], confs: Confs) -> str:
    """What is wrong with a key of a group of which a list or a sweep chooses several options.

    Returns:
        `NO_FAULT` if one of them has it; '' if nothing is known.
    """
    group = word.key_or_group.partition(".")[0]
    for other in words:
        several = other.is_choice_sweep() or isinstance(other.value(), list)
        if other.key_or_group == group and word is not other and several and not word.is_delete():
            if any(
                f"{word.key_or_group}.".startswith(f"{key}.")
                for option in named(other)
                for key in keys_of(group, option, confs)
            ):
                added = str(word.input_line)
                return f"{added}: {THERE}: {added[1:]}" if word.is_add() else NO_FAULT
            rest = word.key_or_group.partition(".")[2]
            if group == "regularizer" and rest and not other.is_choice_sweep():
                listed = f"[{','.join(named(other))}]"
                return _key_fault(str(word.input_line), group, rest, {group: listed}, confs)
            if other.is_choice_sweep():
                return swept_key_fault(word.key_or_group, group, list(other.sweep_string_iterator()), confs)
    return ""


def fault_of(override: str, overrides: Sequence[str], confs: Confs) -> str:
    """What is wrong with one of the overrides that Hydra has refused; '' if it seems right."""
    chosen = chosen_options(confs, confs.parsed(overrides))
    return "".join(_fault(word, chosen, confs) for word in confs.parsed([override]))


def _fault(word: Override, chosen: Mapping[str, str], confs: Confs) -> str:
    override, key = str(word.input_line), word.key_or_group
    value = override.partition("=")[2]
    if word.is_delete():
        return _deletion_fault(word, chosen, confs)
    if confs.repository.group_exists(key) and not isinstance(word.value(), dict):
        return _options_fault(word, confs) or _choice_fault(word, chosen)
    if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
        return _hydra_fault(override, key, chosen, confs)
    head, _, rest = key.partition(".")
    if head in GROUPS:
        return _key_fault(override, head, rest, chosen, confs) if rest and head in chosen else ""
    if word.is_add() and key in SETTINGS:
        return f"{override}: is there already; write it without the +: {override[1:]}"
    if key in SETTINGS or key == EXPERIMENT or word.is_add() or word.is_force_add():
        return ""
    return f"{override}: unknown; {meant(key, value, chosen, confs)}"


def _hydra_fault(override: str, key: str, chosen: Mapping[str, str], confs: Confs) -> str:
    """What is wrong with a key or a group of Hydra's own part."""
    group, _, rest = key.removeprefix("hydra.").partition(".")
    group = f"hydra/{group}"
    if rest and group in (LAUNCHER, SWEEPER) and group in chosen:
        fault = _key_fault(override, group, rest, chosen, confs)
        known = ", ".join(values_of(confs, group, chosen[group]))
        return f"{fault} ({known})" if "mean" in fault else fault
    if "/" in key:
        there = [name for name in chosen if name.startswith("hydra/")]
        return f"{override}: unknown; {did_you_mean(key, there)}"
    return "" if group in chosen else hydra_key_fault(override, key)


def _deletion_fault(word: Override, chosen: Mapping[str, str], confs: Confs) -> str:
    key = word.key_or_group
    group, _, rest = key.partition(".")
    there = key in chosen or key in SETTINGS
    if there or (group in chosen and rest.partition(".")[0] in content_of(confs, group, chosen[group])):
        return ""
    return f"{word.input_line}: is not there, so it cannot be removed; leave it out"


def _options_fault(word: Override, confs: Confs) -> str:
    """What is wrong with the options that an override of a group chooses; '' if nothing is."""
    if not word.key_or_group:
        return f"{word.input_line}: must begin with a key"
    group, value = word.key_or_group, str(word.input_line).partition("=")[2]
    options = named(word)
    if group == "seed" and all(re.fullmatch(r"[-+\d.e]+", option) for option in options):
        written = f"seed.value={value.strip('[]')}"
        if re.search("[,(]", value):
            written = f"-m '{written}'"
        known = ", ".join(options_of(confs, group))
        return f"seed={value}: seed is a group of options ({known}); write {written}"
    return next(filter(None, (option_fault(group, option, confs) for option in options)), "")


def option_fault(group: str, option: str, confs: Confs) -> str:
    """What is wrong with an option of a group; '' if Hydra finds it."""
    if exists(confs, group, option):
        return ""
    options = options_of(confs, group)
    if (group, option) in INSTEAD:
        return f"{group}={option}: no such option; write {INSTEAD[group, option]}"
    if group == SWEEPER and option in ("ax", "nevergrad"):
        return (
            f"{group}={option}: has to be installed: pip install hydra-{option}-sweeper; and allowed to build"
            f" what it names: cli.main(train, packages=['{option}']) in train.py"
        )
    hint = did_you_mean(option, options)
    return f"{group}={option}: no such option; {hint}" + (
        f" ({', '.join(options)})" if "mean" in hint else ""
    )


def _choice_fault(word: Override, chosen: Mapping[str, str]) -> str:
    """Whether a group's entry in the defaults lists is there already, or not there."""
    override, plain = str(word.input_line), str(word.input_line).lstrip("+")
    group = word.key_or_group
    key = group if word.package is None else f"{group}@{word.package}"
    there = key in chosen or key == EXPERIMENT or isinstance(word.value(), list)  # of which Hydra names none
    if word.is_force_add() or (word.is_add() and there):
        return f"{override}: a group is chosen without the +: {plain if there else f'+{plain}'}"
    if there or word.is_add() or word.is_sweep_override():
        return ""
    near = [other for other in chosen if other.partition("@")[0] == group]
    hint = f"did you mean {near[0]}={plain.partition('=')[2]}? Or " if near else ""
    return f"{override}: no defaults list has {key}; {hint}a + in front adds it: +{plain}"


def _key_fault(override: str, group: str, key: str, chosen: Mapping[str, str], confs: Confs) -> str:
    option = chosen[group]
    keys = values_of(confs, group, option)
    added, there = override.startswith("+"), f"{override}: {THERE}"
    if group == "regularizer":
        picked, (option, _, key) = option, key.partition(".")
        if option not in options_of(confs, group):
            return f"{override}: write regularizer.OPTION.KEY; options: {', '.join(options_of(confs, group))}"
        keys = values_of(confs, group, option)
        if not key:
            first = next(iter(keys), "KEY")
            return f"{override}: must name one of its keys, as in regularizer.{option}.{first}=VALUE"
        others = [other for other in re.split(r"[\[\], ]+", picked) if other not in ("", "none")]
        if key in keys and option in others:
            return there if added else ""
        if key in keys:
            beside = ",".join(dict.fromkeys(others))
            together = f"write regularizer=[{beside},{option}]"
            way = together if beside else f"add regularizer={option} to the command"
            return f"{override}: that regularizer is not chosen; {way}"
    if key == "_target_" or key.split(".")[0] in keys:
        return there if added and key in keys else ""
    if content_of(confs, group, option).get("_target_") == "???":
        own = f"{override}: keys that belong to the _target_ of {group}={option} need a + in front"
        return "" if added else f"{own}: +{override}"
    having = [other for other in options_of(confs, group) if key in values_of(confs, group, other)]
    if having:
        named = f"{' and '.join(having)} {'has' if len(having) == 1 else 'have'}"
        way_out = f"{group}={having[0]}, or leave {override.partition('=')[0]} out"
        return f"{override}: {group}={option} has no {key!r}; {named}: use {way_out}"
    return f"{override}: {group}={option} has no {key!r}; {did_you_mean(key, keys)}"


def swept_key_fault(key: str, group: str, options: Sequence[str], confs: Confs) -> str:
    """What is wrong with a key that none of the swept options of its group has, and what would have worked.

    Args:
        key: with its group: 'init.std'.
        group: of the options.
        options: as the sweep chooses them: 'normal', '[l1,dropout]'.
        confs: what Hydra finds.
    """
    having = [
        f"[{other}]" if group == "regularizer" else other
        for other in options_of(confs, group)
        if key in keys_of(group, other, confs)
    ]
    fault = f"{key}: none of {group}={','.join(options)} has such a key"
    if having:
        named = f"{' and '.join(having)} {'has' if len(having) == 1 else 'have'}"
        more = ",".join([*options, having[0]])
        return f"{fault}; {named}: sweep over {group}={more}, or leave {key} out"
    words = {word for option in options for word in re.split(r"[,\[\]\s]+", option) if word}
    known = {other for word in words for other in keys_of(group, word, confs)}
    return f"{fault}; {did_you_mean(key, sorted(known))}"


def keys_of(group: str, option: str, confs: Confs) -> list[str]:
    """The keys of an option as they are written on a command line."""
    above = f"{group}.{option}" if group == "regularizer" else group
    return [f"{above}.{key}" for key in values_of(confs, group, option)]
