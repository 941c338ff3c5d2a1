"""Trains the setting of a run once more, on all rows, for as long as it was best.

  python scripts/last_fit.py RUN
  python scripts/last_fit.py outputs/main        the best run of a sweep

RUN is the folder of a run that has ended; of an experiment's folder its best
run is taken, by the validation part, and named. The new run is that of
RUN/config.yaml but for three things:

  data.validation=0 data.test=0    the rows of both parts are trained on too; a
                                   published test part stays what it is
  early_stop=after                 ends after as many epochs as the best weights
                                   of RUN have taken
  name=last_fit                    its folder is in outputs/last_fit; name=NAME
                                   sets another

Seeds are the same. The schedule keeps its horizon in epochs, so the rates are
those of RUN by epoch; an epoch has more steps, as there are more rows. A
schedule that follows the validation part (plateau) cannot be used. It is a run
like any other: the same command continues it, or says that it has ended. Its
last weights are the best ones, and nothing is left to measure them.

Exit codes: those of train.py.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.store import record, status
from sweepwise.store.request import Request, keys, name_fault
from sweepwise.tools import scripting

if TYPE_CHECKING:
    from sweepwise.data import Arrays

AFTER = "sweepwise.early_stop.after.After"
REPLACED = (
    "data.validation",
    "data.test",
    "early_stop",
    "name",
    "trainer.max_steps",
    "fresh",
    "accept_changes",
)


def main(arguments: list[str]) -> int:
    """Trains the setting of a run on all rows."""
    first, own = scripting.run_and_settings(arguments, name="last_fit", fresh="false")
    faults = [fault] if (fault := name_fault(own["name"])) else []
    if own["fresh"] not in ("true", "false"):
        faults.append(f"fresh={own['fresh']}: must be true or false")
    if faults:
        raise UsageError(faults)
    folder = scripting.chosen_run(first)
    before, known = cli.recorded(folder), record.read(folder)
    if not status.ended(known) or known["best"]["epoch"] < 0:
        how = status.current_status(folder)
        raise UsageError([f"{folder}: must have ended with best weights, and is {how}"])
    request = on_all_rows(before, known["best"]["epoch"] + 1)
    config = {**request.config, "name": own["name"], "fresh": own["fresh"] == "true", "accept_changes": False}
    return cli.train_request(replace(request, config=config))


def on_all_rows(before: Request, epochs: int) -> Request:
    """The run of the same setting that trains on all rows.

    Args:
        before: the run that was chosen.
        epochs: that its best weights have taken.

    Raises:
        UsageError: the run itself has trained on all rows.
    """
    from sweepwise.run import bind_all

    data = bind_all(before.config)["data"]
    arrays = data.target()
    shares = {"validation": 0} if arrays.x_test is not None else {"validation": 0, "test": 0}
    if not any(data.envelope[key] for key in shares):
        raise UsageError(["data.validation=0: the run has trained on all rows already"])
    config = copy.deepcopy(dict(before.config))
    config["data"] |= shares
    config["early_stop"] = {"_target_": AFTER, "epochs": epochs}
    changed = [f"data.{key}={share}" for key, share in shares.items()]
    changed += ["early_stop=after", f"early_stop.epochs={epochs}"]
    if (most := config["trainer"]["max_steps"]) is not None:
        config["trainer"]["max_steps"] = more = more_steps(most, arrays, data.envelope, shares)
        changed.append(f"trainer.max_steps={more}")
    kept = [
        override
        for key, override in zip(keys(before.overrides), before.overrides, strict=True)
        if key not in REPLACED and not key.startswith("early_stop.")
    ]
    return replace(before, config=config, overrides=[*kept, *changed])


def more_steps(most: int, arrays: "Arrays", envelope: Mapping[str, Any], shares: Mapping[str, Any]) -> int:
    """As many steps of the longer epochs as make as many epochs as `most` steps made."""
    from sweepwise.data import split

    was, now = (split(arrays, **{**envelope, **change}).steps_per_epoch for change in ({}, shares))
    return -(-most * now // was)


if __name__ == "__main__":
    cli.script(main, __doc__)
