"""Building and fitting without a config, beside the same run by the command line's way."""

import ast
from functools import partial
from pathlib import Path

import pytest
import torch
from small import composed
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR

import sweepwise
from sweepwise import (
    FlatOptimizer,
    Schedule,
    Seeds,
    Settings,
    UsageError,
    build,
    fit,
    initialize_,
    run,
    split,
)
from sweepwise.data.sklearn_sets import wine
from sweepwise.early_stop.patience import Patience
from sweepwise.model.mlp import mlp
from sweepwise.regularizer.dropout import Dropout
from sweepwise.regularizer.l1 import L1

ADAM = partial(torch.optim.Adam, lr=1e-2)
SMALL = partial(mlp, hidden=[16])


def wines(**options):
    return split(wine(), **{"batch_size": 16, **options})


def test_a_fit_is_the_run_of_the_command_line_to_the_bit(tmp_path):
    overrides = ["data=wine", "model.hidden=[16]", "init=xavier", "optimizer.lr=0.01", "scheduler=cosine"]
    overrides += ["scheduler.warmup=1", "regularizer=[l1,dropout]", "trainer.max_epochs=6", "seed.value=3"]
    overrides += ["trainer.device=cpu", "early_stop.patience=2", "progress=false", f"output_dir={tmp_path}"]
    asked = composed(*overrides)
    other = run.train(asked).run
    fitted = fit(
        build(
            data=wines(),
            model=SMALL,
            init=partial(torch.nn.init.xavier_normal_, gain=1.0),
            optimizer=ADAM,
            scheduler=partial(Schedule, partial(CosineAnnealingLR, T_max=5), warmup=1, end=5),
            regularizers=[L1(coefficient=1e-5), Dropout(p=0.5)],
            early_stop=Patience(patience=2),
            settings=Settings(max_epochs=6, device="cpu"),
            seed=3,
        ),
        tmp_path / "notebook",
    )
    assert (fitted.status, fitted.metrics) == (other.status, other.metrics)
    files = ["metrics.jsonl"]
    files += [f"checkpoints/{name}/weights.safetensors" for name in ("best", "last")]
    theirs = (asked.folder / files[1]).read_bytes()
    assert (tmp_path / "notebook" / files[1]).read_bytes() == theirs
    assert (tmp_path / "notebook" / files[0]).read_text() == (asked.folder / files[0]).read_text()


def test_without_a_folder_nothing_is_written_and_all_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = build(data=wines, model=SMALL, optimizer=ADAM, settings=Settings(max_epochs=3))
    fitted = fit(parts)
    assert not list(tmp_path.iterdir())
    assert [line["epoch"] for line in fitted.history] == [0, 1, 2]
    assert [line["step"] for line in fitted.history] == [6, 13, 20]
    losses = [line["val/loss"] for line in fitted.history]
    assert fitted.best.value == min(losses) and fitted.best.epoch == losses.index(min(losses))
    assert (fitted.status, fitted.reason) == ("finished", "") and "test/accuracy" in fitted.metrics
    assert fitted.model is parts.model and not fitted.model.training
    x, y = parts.data.validation.x, parts.data.validation.y
    with torch.no_grad():
        assert nn.functional.cross_entropy(fitted.model(x), y).item() == pytest.approx(fitted.best.value)


def test_a_network_that_is_there_is_trained_in_place():
    network = nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 3))
    before = network[0].weight.clone()
    fitted = fit(build(data=wines(), model=network, optimizer=ADAM, settings=Settings(max_epochs=1)))
    assert fitted.model is network and not torch.equal(network[0].weight, before)


def test_seeds_apart_are_those_of_a_run():
    weights = [
        build(data=wines(), model=SMALL, init=nn.init.xavier_normal_, optimizer=ADAM, seed=seed)
        .model.state_dict()["linear0.weight"]
        .clone()
        for seed in (0, Seeds(0, 1, 0, 1), Seeds(0, 0, 1, 0))
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_what_is_around_a_part_can_be_given_with_it():
    parts = build(
        data=wines(),
        model=SMALL,
        init=partial(initialize_, scheme=nn.init.ones_, output_scale=0.5),
        optimizer=partial(FlatOptimizer, partial(torch.optim.SGD, lr=0.5, weight_decay=0.1), decay="all"),
        scheduler=partial(ExponentialLR, gamma=0.5),
        settings=Settings(max_epochs=3),
    )
    assert parts.model.state_dict()["output.weight"].unique().tolist() == [0.5]
    assert parts.schedule.rates[::7].tolist() == [0.5, 0.25, 0.125]


def test_the_rate_may_be_the_class_s_default():
    parts = build(data=wines(), model=SMALL, optimizer=torch.optim.Adam, settings=Settings(max_epochs=1))
    assert set(parts.schedule.rates) == {1e-3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": Settings(device="warp")}, r"trainer\.device=warp"),
        ({"data": lambda: wines(batch_size=1000)}, r"data\.batch_size=1000: must be at most the 107"),
        ({"regularizers": [Dropout()], "model": nn.Linear(13, 3)}, "the model has no dropout layer"),
        ({"init": nn.init.eye_, "model": nn.Conv1d(13, 3, 1)}, "cannot fill weight"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        build(**{"data": wines(), "model": SMALL, "optimizer": ADAM, **changes})


def test_every_name_that_is_offered_is_there_and_found_by_type_checkers():
    assert sorted(sweepwise._HOMES) == sorted(sweepwise.__all__)
    assert set(sweepwise.__all__) <= set(dir(sweepwise))
    for name in sweepwise.__all__:
        assert getattr(sweepwise, name).__name__ == name
    tree = ast.parse(Path(sweepwise.__file__).read_text())
    typed = {
        (alias.name, node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    typed = typed - {("run", "sweepwise")}  # the package, which can be called
    assert typed == {(name, f"sweepwise.{home}") for name, home in sweepwise._HOMES.items()}
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = sweepwise.fitt
