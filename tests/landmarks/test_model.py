"""Published and known accuracies, through whole runs as `train.py` does them."""

from pathlib import Path

import pytest
from small import CONF

from sweepwise import run
from sweepwise.cli import composed
from sweepwise.store import record


def accuracy_of(home: Path, *overrides: str) -> float:
    usual = ["trainer.device=cpu", "scheduler=cosine", "init=kaiming", "early_stop=none", "monitor=none"]
    asked = composed([*usual, f"output_dir={home}", "progress=false", *overrides], CONF)
    assert run.train(asked).exit_code == 0
    return record.read(asked.folder)["best"]["metrics"]["test/accuracy"]


@pytest.mark.slow
def test_the_network_of_mnist1d_comes_near_its_published_accuracy(tmp_path):
    # 94 % in arXiv 2011.14439, after 8000 steps of Adam at 0.01 with batches of 100; here 3500, and dropout.
    accuracy = accuracy_of(
        tmp_path,
        *("data=mnist1d", "data.validation=0.1", "data.batch_size=100", "model=cnn1d", "optimizer.lr=0.01"),
        *("regularizer=dropout", "regularizer.dropout.p=0.2", "early_stop.metric=val/accuracy"),
        "trainer.max_epochs=100",
    )
    assert accuracy >= 0.9


@pytest.mark.slow
def test_resnet_8_reads_digits(tmp_path):
    overrides = ["data=digits", "data.image=true", "model=resnet", "model.depth=8", "trainer.max_epochs=12"]
    assert accuracy_of(tmp_path, *overrides) > 0.97
