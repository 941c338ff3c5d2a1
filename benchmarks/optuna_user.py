"""What users write today: a search by Optuna around a plain PyTorch loop; benchmarks/optuna_loop.py times it.

    python benchmarks/optuna_user.py DATA.npz JOURNAL SEED TRIALS EPOCHS

DATA.npz holds x, y, held_x, held_y. Prints the best validation loss.
"""

import sys

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from torch import nn
from torch.nn import functional

PATIENCE = 10  # epochs


def main(data: str, journal: str, seed: int, trials: int, epochs: int) -> None:
    torch.set_num_threads(1)  # faster than two for matrices as small as these
    torch.manual_seed(seed)
    arrays = np.load(data)
    x, y, held_x, held_y = (torch.tensor(arrays[name]) for name in ("x", "y", "held_x", "held_y"))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        decay = trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
        p = trial.suggest_float("dropout", 0.0, 0.5)
        hidden = [nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(p)]
        model = nn.Sequential(*hidden, nn.Linear(128, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay, fused=True)
        best, best_epoch = float("inf"), 0
        for epoch in range(epochs):
            model.train()
            for index in torch.randperm(len(y)).split(64):
                loss = functional.cross_entropy(model(x[index]), y[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                value = functional.cross_entropy(model(held_x), held_y).item()
            if value < best:
                best, best_epoch = value, epoch
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
            if epoch - best_epoch >= PATIENCE:
                break
        return best

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(journal)),
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs),
    )
    study.optimize(objective, n_trials=trials)
    print(study.best_value)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
