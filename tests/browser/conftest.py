"""Real runs, a real TensorBoard and a real browser, started once for all tests of this folder."""

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import commands
import numpy as np
import pytest
import sweeps
from small import ROOT, composed, without

from sweepwise.monitor.events import EventFile
from sweepwise.monitor.hparams import settings
from sweepwise.sweep.summary import tell_tensorboard

CHROMIUM = "/usr/bin/chromium"
FLAGS = [  # no sandbox in a container; nothing looked up in the background
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 60
VIEW = {"width": 1600, "height": 1200}


@dataclass(frozen=True)
class Site:
    """A TensorBoard over some runs.

    Attributes:
        url: of its page.
        folder: that is its --logdir.
        runs: by TensorBoard's name of a run, which is its path below --logdir: the last value of each tag.
    """

    url: str
    folder: Path
    runs: Mapping[str, Mapping[str, float]]


def train(folder: Path, *arguments: str) -> None:
    command = ["train.py", *arguments, "trainer.max_epochs=5", f"output_dir={folder}"]
    done = commands.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def last_values(metrics: Path) -> dict[str, float]:
    values: dict[str, float] = {}
    for line in metrics.read_text().splitlines():
        values |= json.loads(line)
    return values


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[Site]:
    """Serves the runs of a folder, all of them loaded."""
    runs = {str(file.parent.relative_to(folder)): last_values(file) for file in folder.rglob("metrics.jsonl")}
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # it has a child, which must end with it
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()
    try:
        url = announced(lines)
        wait_until_loaded(url, set(runs))
        yield Site(url, folder, runs)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(START_SECONDS)
        reader.join(START_SECONDS)


def announced(lines: "queue.SimpleQueue[str]") -> str:
    said = ""
    while not (found := re.search(r"TensorBoard \S+ at (http://127\.0\.0\.1:\d+/)", said)):
        try:
            said += lines.get(timeout=START_SECONDS)
        except queue.Empty:
            pytest.fail(f"tensorboard told no address:\n{said}", pytrace=False)
    return found[1]


def wait_until_loaded(url: str, runs: set[str]) -> None:
    """Waits for the last record of each run, the end of its session."""
    query = {"allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE"], "startIndex": 0, "sliceSize": 1000}
    asked = urllib.request.Request(f"{url}data/plugin/hparams/session_groups", json.dumps(query).encode())
    asked.add_header("Content-Type", "application/json")
    until = time.monotonic() + START_SECONDS
    loaded: set[str] = set()
    while loaded != runs:
        assert time.monotonic() < until, f"of {sorted(runs)} TensorBoard loaded {sorted(loaded)}"
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(asked, timeout=10) as answer:
            loaded = {group["name"] for group in json.load(answer).get("sessionGroups", [])}


@pytest.fixture(scope="session")
def browser():
    if not shutil.which(CHROMIUM):
        without(f"{CHROMIUM} is missing: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        without("playwright is missing: pip install -e '.[dev]'")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def pair(browser, tmp_path_factory):
    """Two runs that differ in their initialisation."""
    folder = tmp_path_factory.mktemp("pair")
    for init in ("xavier", "kaiming"):
        train(folder, f"init={init}", "scheduler=cosine", "data.image=true")
    with tensorboard(folder) as site:
        yield site


@pytest.fixture(scope="session")
def sweep(browser, tmp_path_factory):
    """The four runs of a multirun."""
    folder = tmp_path_factory.mktemp("sweep")
    train(folder, "-m", "init=xavier,kaiming", "seed.value=0,1")
    with tensorboard(folder) as site:
        yield site


@pytest.fixture(scope="session")
def many(browser, tmp_path_factory):
    """A sweep of 500 runs that began at the same instant, and were not trained."""
    home = tmp_path_factory.mktemp("many") / "main"
    numbers = np.random.default_rng(0).uniform(0.1, 0.9, 500).tolist()
    grid = [
        (f"init={init}", f"scheduler={schedule}", f"optimizer.lr={rate}")
        for init in ("xavier", "kaiming", "orthogonal", "lecun", "normal")
        for schedule in ("constant", "cosine", "step", "exponential")
        for rate in (0.1, 0.01, 0.001, 1e-4, 1e-5)
    ]
    for number, value in enumerate(numbers):
        overrides = (*grid[number // 5], f"seed.value={number % 5}")
        diverged = number % 50 == 7
        folder = sweeps.run(home, *overrides, value=value, status="diverged" if diverged else "finished")
        line = {"step": 9, "epoch": 0, "val/loss": value, "train/loss": value / 2}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        request = composed(*overrides)
        with EventFile(folder) as file:
            file.hparams(settings(request.choices, request.config))
            file.scalars(9, {"Val/loss": value, "Train/loss": value / 2, "best/val/loss": value / 3})
            file.hparams_end("FAILURE" if diverged else "SUCCESS")
    tell_tensorboard([home])
    with tensorboard(home.parent) as site:
        yield site


@pytest.fixture
def page(browser, tmp_path, request):
    """A page that must not complain; a picture of it is left in the test's folder."""
    page = browser.new_page(viewport=VIEW)
    complaints = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda got: got.status >= 400 and complaints.append(f"{got.status} {got.url}"))
    yield page
    page.screenshot(path=tmp_path / f"{request.node.name}.png")
    complaints += page.locator("mat-snack-bar-container").all_inner_texts()
    page.close()
    assert complaints == []
