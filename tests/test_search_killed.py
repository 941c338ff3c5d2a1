"""A search that is killed again and again decides the same, and trains no run twice."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import commands
import pytest
from small import TINY, TRAIN

from sweepwise.search import log
from sweepwise.store import record
from sweepwise.store.folders import SEARCH, SWEEP

KILLS = int(os.environ.get("SWEEPWISE_KILLS", 12))  # 50 take some minutes
RACING = (
    *("-m", "hydra/sweeper=racing", *TINY, "monitor=scalars", "early_stop=none", "trainer.max_epochs=40"),
    *("init=xavier,kaiming,zeros", "optimizer.lr=0.1,0.01,0.001", "hydra.sweeper.max_seeds=6"),
    *("checkpoint.steps=20", "progress=false", "mean_runs=false", "hydra.launcher.group_size=4"),
)
GUIDED = (  # whose runs pause and go on
    *("-m", "hydra/sweeper=guided", *TINY, "monitor=none", "trainer.max_epochs=9", "checkpoint.steps=20"),
    *(
        "hydra.sweeper.runs=36",
        "hydra.sweeper.save=null",
        "progress=false",
        "mean_runs=false",
        "report=false",
    ),
)
ENDED = ("finished", "stopped early")


def start(search: tuple[str, ...], folder: Path) -> subprocess.Popen:
    quiet = subprocess.DEVNULL
    words = [TRAIN, *search, f"output_dir={folder}"]
    return commands.popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def known(folder: Path) -> dict[str, tuple]:
    """What has become of each run, by its folder's name: how it ended, and its best weights."""
    runs = [path.parent for path in (folder / "main").glob("[!.]*/record.json")]
    records = {run.name: record.read(run) for run in runs}
    return {name: (one["status"], one["best"]["value"], one["best"]["step"]) for name, one in records.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "most"), [(RACING, KILLS), (GUIDED, KILLS // 2)], ids=["racing", "guided"]
)
def test_kills_at_random_moments(tmp_path, search, most):
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert start(search, whole).wait() == 0
    seconds = time.monotonic() - began
    decisions, runs = log.read(whole / "main" / SWEEP / SEARCH), known(whole)
    assert len(decisions) > 3 and len(runs) > 27
    moment = random.Random(1)
    kills = searches = 0
    while kills < most:
        searches += 1
        folder = tmp_path / f"search-{searches}"
        while True:
            process = start(search, folder)
            try:
                assert process.wait(moment.uniform(0, 0.8 * seconds)) == 0
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        assert log.read(folder / "main" / SWEEP / SEARCH) == decisions
        assert known(folder) == runs
        for path in (folder / "main").glob("[!.]*/record.json"):
            attempts = [attempt["status"] for attempt in record.read(path.parent)["attempts"]]
            assert sum(map(attempts.count, ENDED)) <= 1 and attempts[-1] in (*ENDED, "pruned")
