"""Time limits: Slurm looks at them twice a minute, so a job of a minute is warned after 20 to 50 seconds."""

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

LIMIT = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=15", "hydra.launcher.wait=true")
SEEDS = "seed.value=0,1,2,3"
PACE = "0.6"  # 120 steps then take more than a minute


def test_single_and_packed_jobs_go_on_after_their_limit(cluster, tmp_path):
    alone, packed = (cluster.sweep(tmp_path / name, PACE) for name in ("alone", "packed"))
    packing = ("hydra.launcher.runs_per_job=4", "hydra.launcher.max_parallel=4", "hydra.launcher.fuse=false")
    waiting = [alone.start("init=xavier", *LIMIT), packed.start(SEEDS, *packing, *LIMIT)]
    said = [cluster.ended(process) for process in waiting]
    assert "1 finished" in said[0] and "4 finished" in said[1]
    for sweep, overrides in ((alone, "init=xavier"), (packed, SEEDS)):
        (job,) = sweep.jobs()
        history = cluster.completed(job)
        assert len(history) >= 3 and set(history[:-1]) == {"REQUEUED"}
        for record in sweep.records():
            begun = [attempt["from_step"] for attempt in record["attempts"]]
            assert begun == sorted(begun) and 3 <= len(begun) <= len(history)  # one may end before it begins
        assert cluster.as_here(sweep, sweep.output, overrides)
