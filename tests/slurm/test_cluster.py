"""The clusters themselves: what the other tests take for granted of them."""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

SCRIPT = Path(__file__).parent / "cluster"
# The first process listens at an address, the second one must reach it there.
MEET = """
import os, socket, sys, time
address, limit = (sys.argv[1], 20000 + int(os.environ["SLURM_JOB_ID"])), time.monotonic() + 5
if os.environ["SLURM_PROCID"] == "0":
    with socket.create_server(address) as server:
        server.settimeout(5)
        server.accept()
else:
    while True:
        try:
            sys.exit(socket.create_connection(address, 1).close())
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)
"""


@pytest.mark.parametrize(("address", "meets"), [("n1", True), ("localhost", False)])
def test_nodes_are_apart(cluster, tmp_path, address, meets):
    """Else a run whose processes look for each other on their own host would pass for one that works."""
    (tmp_path / "meet.py").write_text(MEET)
    command = f"srun {sys.executable} {tmp_path / 'meet.py'} {address}"
    sbatch = ["sbatch", "--wait", "-N2", "--ntasks-per-node=1", "-o", f"{tmp_path}/said", "--wrap", command]
    done = subprocess.run(sbatch, env=cluster.env, capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == meets, done.stderr + (tmp_path / "said").read_text()


@pytest.fixture
def root():
    """A folder for a cluster, by a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        yield Path(folder) / "cluster"


def test_a_cluster_ends_with_the_process_that_holds_it(cluster, root):
    """However that process ends: its end of the pipe is closed."""
    env = cluster.env | {"SLURM_TEST_ROOT": str(root), "SLURM_TEST_ACCOUNTING": "0"}
    pipe = subprocess.PIPE
    with subprocess.Popen([SCRIPT, "hold"], env=env, stdin=pipe, stdout=pipe, text=True) as held:
        assert held.stdin and held.stdout
        assert held.stdout.readline() == "up\n"
        assert "n2" in subprocess.check_output([SCRIPT, "status"], env=env, text=True)
        assert processes_of(root)
        held.stdin.close()
        assert held.wait(60) == 0
    assert subprocess.run([SCRIPT, "status"], env=env, capture_output=True).returncode == 1
    assert processes_of(root) == []


def processes_of(root: Path) -> list[str]:
    """All processes of a cluster, by their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has just ended, or is not ours to look at
            if f"SLURM_TEST_ROOT={root}".encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found
