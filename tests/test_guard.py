"""What Hydra would import, build or unpickle by itself, before our code sees a config."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from small import CONF, ENVIRONMENT, ROOT, TRAIN

from sweepwise import cli
from sweepwise.cli import guard
from sweepwise.config import allowlist
from sweepwise.errors import UsageError

WAY_OUT = "cli.main(train, packages=['PACKAGE'])"


def refused(*overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        cli.composed(overrides, CONF)
    (fault,) = caught.value.faults
    return fault


TARGETS = [
    "os.system",
    "builtins.exec",
    "subprocess.Popen",
    "torch.load",
    "torch.nn.Linear",
    "sweepwise.run.train",
]
TARGETS += [
    "hydra.utils.instantiate",
    "logging.config.dictConfig",
    "hydra.experimental.callbacks.PickleJobInfoCallback",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "place",
    [
        "hydra.callbacks.x._target_",
        "hydra.callbacks.x.y._target_",
        "hydra.launcher.x._target_",
        "hydra.sweeper.x._target_",
    ],
)
def test_hydra_builds_nothing_foreign(place, target):
    fault = refused(f"+{place}={target}")
    assert fault.startswith(f"{place}={target}: must be ") and WAY_OUT in fault


@pytest.mark.parametrize("target", [*TARGETS, "hydra_plugin.x.Y", "hydra._internal.utils._locate"])
@pytest.mark.parametrize("group", ["launcher", "sweeper"])
def test_launchers_and_sweepers_are_installed_plugins(group, target):
    assert "must be an installed plugin of Hydra" in refused(f"hydra.{group}._target_={target}")


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks={x: {_target_: os.system}}",
        "+hydra.callbacks.x={_target_: [os.system]}",
        "+hydra.callbacks.x={a: [{_target_: os.system}]}",
        "+hydra.callbacks.x=${model}",
        "+hydra.callbacks.x._target_=${model._target_}",
        "+hydra.callbacks.x=${hydra:launcher}",
        "+hydra.callbacks.x=${no.such.key}",
        "+hydra.callbacks.x='${oc.create:{_target_:os.system}}'",
    ],
)
def test_no_way_of_writing_it_hides_a_target(override):
    assert refused(override).startswith("hydra.callbacks.x")


LOGGING = [
    "hydra/job_logging=default",
    "hydra/job_logging=stdout hydra.job_logging.handlers.console.class=logging.FileHandler",
    "hydra/job_logging=stdout hydra.job_logging.handlers.console.class=logging.handlers.SocketHandler",
    "hydra/job_logging=stdout hydra.job_logging.handlers.console.class=os.system",
    "hydra/job_logging=stdout hydra.job_logging.handlers.console.stream=ext://os.environ",
    "hydra/job_logging=stdout hydra.job_logging.handlers.console.stream=cfg://root",
    "hydra/job_logging=stdout +hydra.job_logging.formatters.simple.class=os.system",
    "hydra/hydra_logging=default hydra.hydra_logging.handlers.console.class=logging.FileHandler",
    "hydra/hydra_logging=default +hydra.hydra_logging.filters.x.class=os.system",
]


@pytest.mark.parametrize("overrides", LOGGING)
def test_logging_builds_streams_only(overrides):
    fault = refused(*overrides.split())
    assert fault.startswith(("hydra.job_logging.", "hydra.hydra_logging.")) and ": must be one of " in fault


@pytest.mark.parametrize("group", ["launcher", "sweeper"])
@pytest.mark.parametrize("value", ["null", "5"])
def test_launcher_and_sweeper_cannot_be_taken_away(group, value):
    assert refused(f"hydra.{group}={value}").endswith(f": must be a group; hydra/{group}=NAME chooses one")


@pytest.mark.parametrize("factory", ["()", ".", "factory", "queue", "listener"])
def test_factories_of_logging_are_refused(factory, tmp_path):
    lines = ["version: 1", "root: {handlers: [x]}", f"handlers: {{x: {{'{factory}': os.system}}}}"]
    (tmp_path / "hydra" / "job_logging").mkdir(parents=True)
    (tmp_path / "hydra" / "job_logging" / "evil.yaml").write_text("\n".join(lines))
    fault = refused(f"hydra.searchpath=[file://{tmp_path}]", "hydra/job_logging=evil")
    assert fault.startswith("hydra.job_logging.handlers.x.") and "logging.StreamHandler" in fault


@pytest.mark.parametrize("option", ["none", "disabled", "stdout"])
def test_harmless_logging_stays(option):
    assert cli.composed([f"hydra/job_logging={option}"], CONF).id
    assert cli.composed(["hydra/hydra_logging=default"], CONF).id


def test_a_config_changes_no_environment(monkeypatch):
    fault = refused("+hydra.job.env_set.LD_PRELOAD=x.so")
    assert (
        fault.startswith("hydra.job.env_set.LD_PRELOAD=x.so: ") and "LD_PRELOAD=x.so python train.py" in fault
    )
    monkeypatch.setenv("HERE_ALREADY", "1")
    assert cli.composed(["+hydra.job.env_set.HERE_ALREADY='1'"], CONF).id  # as env_copy sets it


def test_a_callback_of_a_package_that_code_names_is_built(tmp_path, monkeypatch):
    (tmp_path / "mine_called.py").write_text("import os\nclass Callback: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(allowlist, "_allowed", {"mine_called"})
    assert cli.composed(["+hydra.callbacks.x._target_=mine_called.Callback"], CONF).id
    assert "not found" in refused("+hydra.callbacks.x._target_=mine_called.os.system")


def test_installing_the_checks_again_changes_nothing():
    guard.install()
    before = guard.ConfigLoaderImpl.load_configuration, guard.ConfigRepository.initialize_sources
    guard.install()
    assert before == (guard.ConfigLoaderImpl.load_configuration, guard.ConfigRepository.initialize_sources)


# --- a package that tells when it is imported, and a pickle that tells when it is read


class Telling:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def hostile(tmp_path) -> Path:
    """hostile/, whose import leaves the file 'told', yamls that name it, and a pickle that leaves it too."""
    package = tmp_path / "hostile"
    (package / "conf" / "model").mkdir(parents=True)
    code = f"from pathlib import Path\nPath({str(tmp_path / 'told')!r}).touch()\ndef act(*a, **k): pass\n"
    (package / "__init__.py").write_text(code)
    (package / "conf" / "__init__.py").write_text("")
    (package / "conf" / "model" / "evil.yaml").write_text("_target_: hostile.act\n")
    (tmp_path / "saved.pickle").write_bytes(pickle.dumps(Telling(tmp_path / "told")))
    yamls = tmp_path / "yamls"
    yamls.mkdir()
    head = "defaults: [train, _self_]\n"
    (yamls / "searching.yaml").write_text(head + "hydra: {searchpath: [pkg://hostile.conf]}\n")
    (yamls / "structured.yaml").write_text(head + "hydra: {searchpath: [structured://hostile]}\n")
    (yamls / "calling.yaml").write_text(
        head + "evil: {_target_: hostile.act}\nhydra: {callbacks: {x: '${evil}'}}\n"
    )
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    (yamls / "bomb.yaml").write_text("\n".join([head + "a0: &a0 [x]", *levels]))
    (yamls / "endless.yaml").write_text(head + "x: &x [*x]\n")
    (tmp_path / "place").mkdir()
    return tmp_path


COMMANDS = [
    "model._target_=hostile.act",
    "regularizer=l1 regularizer.l1._target_=hostile.act",
    "+model.x._target_=hostile.act",
    "hydra.searchpath=[file://HOME/hostile/conf] model=evil",
    "hydra.searchpath=[pkg://hostile.conf] model=evil",
    "hydra.searchpath=[pkg://hostile/conf] --help",
    "hydra.searchpath=[structured://hostile]",
    "--config-path pkg://hostile.conf",
    "-cp pkg://hostile/conf",
    "--config-dir HOME/yamls --config-name searching",
    "--config-dir HOME/yamls --config-name structured",
    "--config-dir HOME/yamls --config-name calling",
    "--config-dir HOME/yamls -cn calling --cfg all",
    "--config-dir HOME/yamls -cn bomb",
    "--config-dir HOME/yamls -cn endless",
    "+hydra.callbacks.x._target_=hostile.act",
    "-m +hydra.callbacks.x._target_=hostile.act seed.value=1,2",
    "-m hydra.launcher._target_=hostile.act seed.value=1,2",
    "--experimental-rerun HOME/saved.pickle",
    "--exp=HOME/saved.pickle",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_nothing_foreign_is_imported_or_unpickled_by_a_command(command, hostile):
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(hostile)])}
    words = [sys.executable, TRAIN, *command.replace("HOME", str(hostile)).split()]
    done = subprocess.run(words, capture_output=True, text=True, cwd=hostile / "place", env=environment)
    assert not (hostile / "told").exists()
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert not list((hostile / "place").iterdir())


def test_aliases_that_stand_for_much_are_refused_by_number(tmp_path):
    (tmp_path / "model").mkdir()
    few, many = tmp_path / "model" / "few.yaml", tmp_path / "model" / "many.yaml"
    text = "x: &x [1, 2, 3]\ny: &y [*x, *x]\nz: [*y, *y]\n"
    few.write_text(text)
    search = f"hydra.searchpath=[file://{tmp_path}]"
    assert cli.composed([search, "model=few"], CONF).config["model"]["z"] == [[[1, 2, 3]] * 2] * 2
    many.write_text(f"x: &x [{', '.join(['1'] * 1000)}]\ny: [{', '.join(['*x'] * 1000)}]\n")
    assert refused(search, "model=many").endswith(
        "its aliases stand for 1,002,005 values; must stand for 100,000 at most: write it out"
    )


def test_the_hostile_files_would_tell(hostile):
    subprocess.run([sys.executable, "-c", "import hostile"], cwd=hostile, check=True)
    (hostile / "told").unlink()
    pickle.loads((hostile / "saved.pickle").read_bytes())
    assert (hostile / "told").exists()
