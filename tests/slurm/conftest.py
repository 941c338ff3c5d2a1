"""Real clusters of two nodes, of which each worker starts those that its tests need, and sweeps on them."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from small import ROOT, without

from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.system.console import INDENT
from sweepwise.verify import compare

HERE = Path(__file__).parent
SCRIPT = HERE / "cluster"
NODES = ("n1", "n2")
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd", "ip", "unshare", "pgrep")
SECONDS = 120  # for what takes a few on a machine that has nothing else to do
# A training of 120 steps that makes no checkpoint but those that it is asked for.
TRAINING = (
    *("data=blobs", "early_stop=none", "monitor=scalars", "monitor.scalars_every=1", "trainer.max_steps=120"),
    *("trainer.max_epochs=1000", "checkpoint.minutes=0", "+regularizer.paced._target_=paced.Paced"),
)
LOGGED = 40  # lines of a daemon's log that a failure shows
UNPACED, PACED = "0", "0.05"


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Waits for a condition, which may not even be askable at first."""
    limit = time.monotonic() + seconds
    while True:
        with contextlib.suppress(FileNotFoundError):
            if condition():
                return
        assert time.monotonic() < limit, f"not within {seconds} s"
        time.sleep(0.2)


@dataclass
class Sweep:
    """A sweep into a folder of its own, as a user starts it and looks after it.

    Attributes:
        output: folder.
        env: environment of all its commands; PACE and PATH are what tests change.
        source: the checkout from which it is started.
    """

    output: Path
    env: dict[str, str]
    source: Path = ROOT
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.output / "main"

    @property
    def logs(self) -> Path:
        return self.home / ".sweep" / "logs"

    def start(
        self, *overrides: str, training: Sequence[str] = TRAINING, pace: str | None = None
    ) -> subprocess.Popen[str]:
        """Starts the launcher; it is ended with the test."""
        command = [sys.executable, "train.py", "-m", *training, f"output_dir={self.output}", *overrides]
        if not any(word.startswith("hydra/launcher=") for word in overrides):
            command += ["hydra/launcher=slurm", "hydra.launcher.poll_s=1"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command,
            cwd=self.source,
            env={**self.env, "PACE": pace or self.env["PACE"]},
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def launch(self, *overrides: str, code: int = 0, **more: Any) -> str:
        """Runs the launcher to its end, which must be this exit code; returns what it said."""
        return ended(self.start(*overrides, **more), code)

    def script(self, name: str, code: int = 0) -> str:
        """Runs one of scripts/ on the sweep; returns what it said."""
        command = [sys.executable, f"scripts/{name}.py", str(self.home)]
        done = subprocess.run(command, cwd=self.source, env=self.env, capture_output=True, text=True)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return unwrapped(done.stdout + done.stderr)

    def jobs(self) -> list[str]:
        """Ids of all jobs that the ledger knows."""
        return [job for submission in Ledger(self.home).submissions() for job in submission.jobs]

    def runs(self) -> list[Path]:
        """Folders of all runs that have begun; not the copy that a later attempt is making of one."""
        return sorted(path.parent for path in self.home.glob("[!.]*/record.json"))

    def records(self) -> list[Mapping]:
        return [json.loads((run / "record.json").read_bytes()) for run in self.runs()]

    def statuses(self) -> list[str]:
        return sorted(record["status"] for record in self.records())

    def reached(self, step: int, runs: int = 1) -> Callable[[], bool]:
        """A condition: so many runs have been seen at or after a step."""

        def condition() -> bool:
            return sum(last_step(run) >= step for run in self.runs()) >= runs

        return condition

    def finished(self, runs: int = 1) -> Callable[[], bool]:
        """A condition: so many runs are finished."""
        return lambda: self.statuses().count("finished") >= runs


def last_step(run: Path) -> int:
    """The last step that a run's log holds; -1 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        lines = (run / "metrics.jsonl").read_text().split("\n")[:-1]
        return json.loads(lines[-1])["step"] if lines else -1
    return -1


def steps(run: Path) -> list[int]:
    """The steps of a run whose own numbers its log holds, in the order of the lines."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "train/batch_loss" in line]


def ended(process: subprocess.Popen[str], code: int = 0, seconds: float = 4 * SECONDS) -> str:
    """Waits for a launcher, which must end with this exit code; returns what it said."""
    said, errors = process.communicate(timeout=seconds)
    if process.returncode != code:
        pytest.fail(f"exit code {process.returncode}, not {code}:\n{said}{errors}{_logs_in(said + errors)}")
    return unwrapped(said + errors)


def _logs_in(said: str) -> str:
    """The files of logs that a launcher has named, with what they say."""
    named = dict.fromkeys(re.findall(r"/\S+\.(?:log|err)\b", unwrapped(said)))
    files = [Path(name) for name in named]
    return "".join(f"\n{file}:\n{file.read_text()}" for file in files if file.is_file())


def unwrapped(said: str) -> str:
    """What was said, where a long path breaks no line of it."""
    return re.sub(rf"\n {{{INDENT}}}(?=\S)", " ", said)


@dataclass
class Cluster:
    """A cluster that is up.

    Attributes:
        env: environment in which Slurm's commands, and sweeps, are about this cluster.
        accounting: whether sacct answers.
    """

    env: dict[str, str]
    accounting: bool
    sweeps: list[Sweep] = field(default_factory=list)

    wait_until = staticmethod(wait_until)
    ended = staticmethod(ended)
    last_step = staticmethod(last_step)
    steps = staticmethod(steps)

    def sweep(self, folder: Path, pace: str = UNPACED) -> Sweep:
        """A sweep into a folder."""
        self.sweeps.append(Sweep(folder / "outputs", {**self.env, "PACE": pace}))
        return self.sweeps[-1]

    def as_here(self, sweep: Sweep, folder: Path, *overrides: str, apart: bool = True) -> bool:
        """Whether the runs of a sweep are, to the bit, those that this machine trains without a break.

        Args:
            sweep: that ran on the cluster.
            folder: to train in.
            overrides: of the sweep.
            apart: whether each is trained by itself.
        """
        here = self.sweep(folder / "here")
        together = "hydra.launcher.fuse=false" if apart else "hydra.launcher.group_size=2"
        here.launch(*overrides, "hydra/launcher=local", together)
        assert [run.name for run in here.runs()] == [run.name for run in sweep.runs()]
        pairs = zip(sweep.runs(), here.runs(), strict=True)
        return [line for pair in pairs for line in compare.compare(*pair)] == []

    def ask(self, *command: str) -> str:
        """Runs one of Slurm's commands; returns what it printed."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def states(self) -> dict[str, str]:
        """The state of each job, by id, as the controller tells it."""
        told = self.ask("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
        return dict(line.split() for line in told.splitlines())

    def history(self, job: str) -> list[str]:
        """The states of all attempts of a job, as the late accounting tells them."""
        told = self.ask("sacct", "-DXnP", f"--jobs={job}", "--format=State,ExitCode")
        return [line.split("|")[0].split()[0] for line in told.splitlines()]

    def exit_codes(self, job: str) -> list[str]:
        return self.ask("sacct", "-DXnP", f"--jobs={job}", "--format=ExitCode").split()

    def is_in(self, job: str, *states: str) -> Callable[[], bool]:
        """A condition: the job is in one of these states."""
        return lambda: self.states().get(job) in states

    def accounted(self, job: str, *states: str) -> None:
        """Waits until the accounting tells these states of a job's attempts, in this order."""
        self._wait_for_history(job, lambda history: history == list(states))

    def completed(self, job: str) -> list[str]:
        """Waits until a job's last attempt has completed, by the accounting; returns the states of all."""
        self._wait_for_history(job, lambda history: history[-1:] == ["COMPLETED"])
        return self.history(job)

    def _wait_for_history(self, job: str, is_so: Callable[[list[str]], bool]) -> None:
        try:
            wait_until(lambda: is_so(self.history(job)))
        except AssertionError as error:
            known = self.ask(
                "sacct", "-DXP", f"--jobs={job}", "--format=JobID,State,ExitCode,Submit,Start,End,NodeList"
            )
            queued = self.ask("squeue", "--states=all", f"--jobs={job}", "--format=%i %T %r %M %N")
            raise AssertionError(f"{error}\n{known}\n{queued}\n{self.logged(job)}") from None

    def logged(self, job: str) -> str:
        """What the daemons have logged last of a job."""
        own = re.compile(rf"JobId={job}\b|StepId={job}\b|\bjob {job}\b", re.I)
        told = []
        for path in sorted(Path(self.env["SLURM_TEST_ROOT"], "log").glob("slurm*.log")):
            lines = [line for line in path.read_text(errors="replace").splitlines() if own.search(line)]
            told += [f"{path.name}:", *lines[-LOGGED:]]
        return "\n".join(told)

    def node_of(self, job: str) -> str:
        return self.ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%N").strip()

    def node(self, verb: str, name: str) -> None:
        """What the cluster's script does to a node: crash-node, boot-node, kill-slurmd, ..."""
        done = subprocess.run([SCRIPT, verb, name], env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{verb} {name}: {done.stderr}")

    def crash_node(self, name: str) -> None:
        self.node("crash-node", name)

    def boot_node(self, name: str) -> None:
        """Boots a node, once the controller has given up what it had to tell the node before.

        Slurm tells a node again and again to end a job, and by the job's number alone: heard after the boot,
        that would end the job's next attempt.
        """
        wait_until(self._has_told_all)
        self.node("boot-node", name)

    def _has_told_all(self) -> bool:
        """Whether the controller tells no node anything, now (then it is not in its queue) or later."""
        said = self.ask("sdiag")
        return all(re.search(rf"{what}: +0\b", said) for what in ("Agent queue size", "Agent count"))

    def unplug_node(self, name: str) -> None:
        self.node("unplug-node", name)

    def plug_node(self, name: str) -> None:
        self.node("plug-node", name)

    def kill_slurmd(self, name: str) -> None:
        self.node("kill-slurmd", name)

    def forget(self) -> None:
        """Lets the controller forget what has ended, as one does after some minutes."""
        config = Path(self.env["SLURM_CONF"])
        kept = config.read_text()
        try:
            config.write_text(kept.replace("MinJobAge=3600", "MinJobAge=2"))
            self.ask("scontrol", "reconfigure")
            wait_until(lambda: not self.states())
        finally:
            config.write_text(kept)
            self.ask("scontrol", "reconfigure")

    def clear(self) -> None:
        """Ends all launchers and jobs, and mends the nodes."""
        for process in (process for sweep in self.sweeps for process in sweep.started):
            if process.poll() is None:
                process.kill()
                process.wait()
        self.sweeps.clear()
        self.ask("scancel", "--user=root")
        for name, state in (line.split() for line in self.ask("sinfo", "-hNpnormal", "-o%N %T").splitlines()):
            if not state.startswith(("idle", "mixed", "allocated", "completing")) or state.endswith("*"):
                with contextlib.suppress(AssertionError):
                    self.plug_node(name)
                self.boot_node(name)
        wait_until(lambda: not self.ask("squeue", "--noheader"))


def _started(**settings: str) -> Iterator[Cluster]:
    """Starts a cluster; it ends with us, however we end."""
    if os.getuid():
        without("a cluster needs root")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [tool for tool in TOOLS if not shutil.which(tool, path=path)]:
        without(f"there is no {', '.join(missing)}: the head of {SCRIPT} names Debian's packages")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        root = Path(folder) / "cluster"  # a short path: sockets lie in it
        parts = Path(folder) / "parts"
        _install_parts(parts)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "PYTEST_"))}
        env |= {"SLURM_TEST_ROOT": str(root), "SLURM_CONF": str(root / "etc/slurm.conf"), **settings}
        env |= {"PYTHONPATH": f"{ROOT / 'src'}:{parts}", "PATH": path}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [SCRIPT, "hold"], env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as held:
            assert held.stdin and held.stdout and held.stderr
            try:
                assert held.stdout.readline() == "up\n", held.stderr.read()
                yield Cluster(env, settings.get("SLURM_TEST_ACCOUNTING") != "0")
            finally:
                held.stdin.close()
                held.wait(SECONDS)


def _install_parts(folder: Path) -> None:
    """Makes what an installation of a package with parts for sweepwise leaves behind."""
    info = folder / "paced-1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(HERE / "paced.py", folder)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paced\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sweepwise.packages]\npaced = paced\n")


def _given(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster for one test, on which nothing is left of it."""
    yield cluster
    cluster.clear()


@pytest.fixture(scope="session")
def with_accounting() -> Iterator[Cluster]:
    yield from _started()


@pytest.fixture(scope="session")
def without_accounting() -> Iterator[Cluster]:
    yield from _started(SLURM_TEST_ACCOUNTING="0")


@pytest.fixture(scope="session")
def with_sigterm() -> Iterator[Cluster]:
    yield from _started(SLURM_TEST_USER_SIGNAL="0", SLURM_TEST_GRACE="5")


@pytest.fixture
def cluster(with_accounting: Cluster) -> Iterator[Cluster]:
    """With accounting; a preemption sends the job's own signal."""
    yield from _given(with_accounting)


@pytest.fixture
def bare_cluster(without_accounting: Cluster) -> Iterator[Cluster]:
    """Without accounting: sacct has nothing to say."""
    yield from _given(without_accounting)


@pytest.fixture
def stern_cluster(with_sigterm: Cluster) -> Iterator[Cluster]:
    """A preemption sends SIGTERM, as Slurm does unless it is told otherwise."""
    yield from _given(with_sigterm)


@pytest.fixture
def sweep(cluster: Cluster, tmp_path: Path) -> Sweep:
    """A sweep on the cluster with accounting, as fast as it can be."""
    return cluster.sweep(tmp_path)


@pytest.fixture
def paced(cluster: Cluster, tmp_path: Path) -> Sweep:
    """A sweep on the cluster with accounting, whose runs take some seconds of waiting."""
    return cluster.sweep(tmp_path, PACED)
