"""The same results in Optuna: what its study and its dashboard say of them.

python -m venv .venv-optuna && .venv-optuna/bin/pip install optuna optuna-dashboard scikit-learn
.venv-optuna/bin/python benchmarks/questions/with_optuna.py
"""

import csv
import io
import json
import warnings
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

HERE = Path(__file__).parent
METRICS = {"schedule": "val/loss", "regularizer": "val/accuracy", "dropout": "val/r2"}
DIVERGED = "diverged"


def study_of(name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """A study with a trial a run; the seed is a user attribute, as nobody searches for it."""
    metric = METRICS[name]
    with (HERE / f"{name}.csv").open() as file:
        runs = list(csv.DictReader(file))
    keys = [key for key in runs[0] if key not in ("seed.value", "status", metric)]
    choices = {key: CategoricalDistribution(sorted({run[key] for run in runs})) for key in keys}
    direction = "minimize" if metric == "val/loss" else "maximize"
    study = optuna.create_study(study_name=name, storage=storage, direction=direction)
    for run in runs:
        failed = run["status"] == DIVERGED
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
                value=None if failed else float(run[metric]),
                params={key: run[key] for key in keys},
                distributions=choices,
                user_attrs={"seed": int(run["seed.value"])},
            )
        )
    return study


def of_dashboard(app, path: str) -> dict:
    """What the dashboard's own page would get."""
    asked: dict = {"PATH_INFO": path}
    setup_testing_defaults(asked)
    asked["wsgi.input"] = io.BytesIO()
    return json.loads(b"".join(app(asked, lambda *_: None)))


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    storage = optuna.storages.InMemoryStorage()
    app = optuna_dashboard.wsgi(storage)
    print(f"optuna {optuna.__version__}, optuna-dashboard {optuna_dashboard.__version__}")
    for number, name in enumerate(METRICS):
        study = study_of(name, storage)
        best = study.best_trial
        failed = len(study.get_trials(states=[TrialState.FAIL]))
        print(f"\n{name}: {len(study.trials)} trials, {failed} of them failed")
        print(
            f"best trial: {METRICS[name]} {best.value:.4f} of seed {best.user_attrs['seed']}, {best.params}"
        )
        for evaluator in (PedAnovaImportanceEvaluator(), FanovaImportanceEvaluator(seed=0)):
            shares = get_param_importances(study, evaluator=evaluator)
            print(type(evaluator).__name__, {key: round(float(share), 3) for key, share in shares.items()})
        shown = of_dashboard(app, f"/api/studies/{number}")
        there = of_dashboard(app, f"/api/studies/{number}/param_importances")
        print("dashboard, keys of a study:", ", ".join(shown))
        print("dashboard, importances:", there)


if __name__ == "__main__":
    main()
