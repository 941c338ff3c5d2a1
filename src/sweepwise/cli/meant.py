"""What somebody has meant by a key that is in no group: a key of a group, or a word that is spelt like it."""

from collections.abc import Iterator, Mapping

from sweepwise.cli.options import Confs, groups_of, options_of, values_of
from sweepwise.config.groups import EXPERIMENT, GROUPS, SETTINGS
from sweepwise.errors import did_you_mean

# Words that people know from elsewhere, and what they mean here.
SHORT = {
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "n_epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "max_iters": "trainer.max_steps",
    "gpu": "trainer.device",
    "num_workers": "trainer.workers",
    "learning_rate": "optimizer.lr",
    "rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "batch": "data.batch_size",
    "bs": "data.batch_size",
    "val": "data.validation",
    "width": "model.hidden",
    "layers": "model.hidden",
    "warmup_epochs": "scheduler.warmup",
}


def meant(key: str, value: str, chosen: Mapping[str, str], confs: Confs) -> str:
    """A hint for an override of a key that is in no group.

    Args:
        key: as written.
        value: as written.
        chosen: the option of each group.
        confs: what Hydra finds.
    """
    if "/" in key:
        return did_you_mean(key, groups_of(confs))
    group, _, name = SHORT.get(key, "").partition(".")
    if group in chosen and name in values_of(confs, group, chosen[group]):
        return f"did you mean {group}.{name}={value}?"
    if "." not in key:
        for hint in (*_in_chosen(key, value, chosen, confs), *_in_others(key, value, confs)):
            return hint
    return did_you_mean(key.partition(".")[0], [*GROUPS, EXPERIMENT, *SETTINGS])


def _in_chosen(name: str, value: str, chosen: Mapping[str, str], confs: Confs) -> Iterator[str]:
    for group in GROUPS:
        if group in chosen and name in values_of(confs, group, chosen[group]):
            yield f"did you mean {group}.{name}={value}?"


def _in_others(name: str, value: str, confs: Confs) -> Iterator[str]:
    for group in GROUPS:
        having = [option for option in options_of(confs, group) if name in values_of(confs, group, option)]
        if having:
            first = min(having, key=lambda option: list(values_of(confs, group, option)).index(name))
            home = f"{group}.{first}" if group == "regularizer" else group
            verb = "has" if len(having) == 1 else "have"
            yield f"{group}={', '.join(having)} {verb} it; write {group}={first} {home}.{name}={value}"
