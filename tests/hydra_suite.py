"""Hydra's own tests of launchers, as far as they apply to ours; `test_launcher.py` runs them."""

import pytest
from hydra.core.plugins import Plugins
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, LauncherTestSuite
from small import CONF

Plugins.instance()  # from 1.4 on a test undoes what plugins register in it
OURS = f"hydra.searchpath=[file://{CONF}]"


@pytest.mark.parametrize("launcher_name", ["local"])
@pytest.mark.parametrize("overrides", [[OURS], [OURS, "hydra/sweeper=grid"]], ids=["basic", "grid"])
class TestWithForeignTasks(LauncherTestSuite):
    pass


@pytest.mark.parametrize("launcher_name", ["local"])
@pytest.mark.parametrize("sweeper", ["basic", "grid"])
class TestInBatches(BatchedSweeperTestSuite):
    def test_sweep_2_jobs_2_batches(self, hydra_sweep_runner, launcher_name, sweeper, tmpdir):
        overrides = [OURS, f"hydra/sweeper={sweeper}", "hydra.sweeper.max_batch_size=2"]
        super().test_sweep_2_jobs_2_batches(hydra_sweep_runner, launcher_name, overrides, tmpdir)
