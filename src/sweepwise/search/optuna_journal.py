"""`optuna.journal`: what Optuna's samplers were told, in a file that its dashboard shows.

    optuna-dashboard outputs/NAME/.sweep/optuna.journal

The search itself never reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

JOURNAL = "optuna.journal"


def write(path: Path, study: optuna.Study, name: str) -> None:
    """Adds the trials of a study that are not in the file yet and have ended.

    Args:
        path: of the file; its folder exists.
        study: whose trials are the same each time, and more.
        name: of the study in the file; another one for a search that suggests others.

    Raises:
        Exception: it cannot be written, whatever Optuna raises then.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    kept = optuna.create_study(
        storage=storage, study_name=name, direction=study.direction, load_if_exists=True
    )
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    kept.add_trials(ended[len(kept.get_trials(deepcopy=False)) :])
