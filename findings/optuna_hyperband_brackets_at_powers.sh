#!/bin/sh
# optuna 5.0.0: HyperbandPruner has one bracket fewer than hyperband where max_resource is min_resource times an exact power of
# reduction_factor and the quotient of two logarithms is rounded down. Hyperband (Li et al., arXiv:1603.06560, algorithm 1) has
# floor(log_eta(R)) + 1 brackets: for R = 1000, eta = 10 these are 4, for R = 243, eta = 3 they are 6. Optuna makes 3 and 5 of
# them, as math.log(1000, 10) is 2.9999999999999996 and math.log(243, 3) is 4.999999999999999; with R = 1001 and 244 it makes 4
# and 6. The bracket that is missing is the one that prunes nothing before the end, which hyperband has against rankings at early
# rungs that mislead; for R = 81, 125, 216, 512, 729 with eta = 3, 5, 6, 8, 3 it is there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q optuna==5.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import optuna

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def brackets(resource, eta):
    """How many brackets there are once a trial has reported a value."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=resource, reduction_factor=eta)
    trial = optuna.create_study(pruner=pruner).ask()
    trial.report(1.0, 1)
    trial.should_prune()
    return pruner._n_brackets


def of_hyperband(resource, eta):
    levels = 0
    while eta ** (levels + 1) <= resource:
        levels += 1
    return levels + 1


print(optuna.__version__)
for resource, eta in ((1000, 10), (1001, 10), (243, 3), (244, 3), (81, 3), (125, 5), (216, 6), (512, 8), (729, 3)):
    found, due = brackets(resource, eta), of_hyperband(resource, eta)
    print(f"R={resource} eta={eta}: {found} brackets, hyperband has {due}")
    assert found == due - (resource in (1000, 243))
PYTHON
