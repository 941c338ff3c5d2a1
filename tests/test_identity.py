"""What a run is called and where it lives: what is in its id, and names that cannot be."""

import json
import re
import subprocess
import sys
from pathlib import Path

import commands
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small import CONF, ROOT, TRAIN, option_of

from sweepwise.cli import checks
from sweepwise.errors import UsageError
from sweepwise.store import claim as claim_module
from sweepwise.store.request import (
    NOT_IDENTITY,
    Request,
    find_folder,
    folder_name,
    identity,
    name_fault,
    output_dir_fault,
)

GROUPS = sorted(
    path.name for path in CONF.iterdir() if list(path.glob("*.yaml")) and path.name != "experiment"
)


def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return config


def leaves(node: dict, *path: str):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, *path, key)
        else:
            yield (*path, key), value


def changed(config: dict, path: tuple[str, ...], value) -> dict:
    copy = json.loads(json.dumps(config))
    node = copy
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copy


def other(value):
    """A value of about the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return [*value, 1] if isinstance(value, list) else f"{value}x"


# --- identity


def test_every_key_of_every_option_is_in_the_id_or_named_as_one_that_cannot_change_a_result():
    options = {g: sorted(path.stem for path in (CONF / g).glob("*.yaml")) for g in GROUPS}
    everything = [
        [f"{group}={names[turn % len(names)]}" for group, names in options.items() if group != "regularizer"]
        for turn in range(max(map(len, options.values())))
    ]
    everything.append([f"regularizer=[{','.join(options['regularizer'])}]"])
    moves: dict[str, set[bool]] = {}
    for overrides in everything:
        config = composed(*overrides)
        before = identity(config)
        for path, value in leaves(config):
            moved = identity(changed(config, path, other(value))) != before
            moves.setdefault(".".join(path), set()).add(moved)
    for key, found in moves.items():
        named = {key, ".".join(key.split(".")[:2]), key.split(".")[0]} & NOT_IDENTITY
        assert found == {not named}, key
    assert set(in_files()) <= moves.keys()  # none was left out
    heads = {".".join(key.split(".")[:n]) for key in moves for n in (1, 2)}
    assert NOT_IDENTITY - heads <= {"accept_changes", "checkpoint"}  # no entry that names nothing


def in_files():
    """The keys of all files of conf/, as they stand there."""
    for path in [CONF / "train.yaml", *(p for group in GROUPS for p in (CONF / group).glob("*.yaml"))]:
        content = option_of(path)
        top = "" if path.parent == CONF else f"{path.parent.name}."
        if path.parent.name == "regularizer":  # several at once, each below its own name
            top += f"{path.stem}."
        for keys, _ in leaves(content):
            if keys[0] not in ("defaults", "hydra"):
                yield top + ".".join(keys)


@pytest.mark.parametrize(
    "key",
    ["seed.value", "data.split_seed", "data.batch_size", "model._target_", "optimizer.lr", "trainer.threads"],
)
def test_what_changes_a_result_is_in_the_id(key):
    path = tuple(key.split("."))
    config = composed()
    value = dict(leaves(config))[path]
    assert identity(changed(config, path, other(value))) != identity(config)


def test_the_same_file_under_two_paths_is_two_runs_and_its_folder_may_move(tmp_path, monkeypatch):
    written = ["data=table", "data.path=set.csv"]
    ids = []
    for home in (tmp_path / "here", tmp_path / "there"):
        home.mkdir()
        monkeypatch.chdir(home)
        ids.append(identity(composed(*written)))
    assert ids[0] == ids[1] != identity(composed("data=table", f"data.path={tmp_path}/here/set.csv"))


def test_identity_changes_with_what_is_added_or_removed():
    config = composed()
    ids = {identity(config), identity({**config, "new": 1})}
    ids |= {identity({key: value for key, value in config.items() if key != "init"})}
    ids |= {
        identity(composed("regularizer=l1")),
        identity(composed("regularizer=[l1,l2]")),
    }
    assert len(ids) == 5


def test_identity_is_eight_hex_digits_whatever_the_order_or_the_process():
    config = composed()
    turned = {key: config[key] for key in reversed(config)}
    found = identity(config)
    assert re.fullmatch(r"[0-9a-f]{8}", found) and identity(turned) == found
    code = (
        "import json, sys; from sweepwise.store import request; print(request.identity(json.load(sys.stdin)))"
    )
    for seed in ("1", "2"):
        env = {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(config),
            capture_output=True,
            text=True,
            env=env,
            check=True,
        )
        assert done.stdout.strip() == found


# --- names and folders

ID = "1a2b3c4d"


@pytest.mark.parametrize(
    "overrides, name",
    [
        ([], "seed=0-1a2b3c4d"),
        (["init=xavier", "optimizer.lr=0.01"], "init=xavier__optimizer.lr=0.01__seed=0-1a2b3c4d"),
        (["seed.value=7", "init=xavier"], "init=xavier__seed=0-1a2b3c4d"),
        (["name=a", "output_dir=/b", "fresh=true", "progress=false", "monitor=none"], "seed=0-1a2b3c4d"),
        (["monitor.scalars_every=1", "trainer.workers=2"], "seed=0-1a2b3c4d"),
        (["+new.key=1"], "+new.key=1__seed=0-1a2b3c4d"),
        (["regularizer=[l1,dropout]"], "regularizer=_l1_dropout__seed=0-1a2b3c4d"),
        (["model.x=../../etc/passwd"], "model.x=.._.._etc_passwd__seed=0-1a2b3c4d"),
        (["model.x='größe 学习'"], "model.x=_gr_e__seed=0-1a2b3c4d"),
    ],
)
def test_a_folder_says_what_was_overridden(overrides, name):
    assert folder_name(overrides, 0, ID) == name


def check_name(name: str, seed: int, run_id: str = ID) -> None:
    assert len(name.encode()) <= 120 and name.isascii()
    assert name.endswith(f"seed={seed}-{run_id}")
    assert re.fullmatch(r"[A-Za-z0-9_.=+,-]+", name)
    assert Path(name).name == name and name not in (".", "..")


@given(st.lists(st.text(max_size=80), max_size=8), st.integers(0, 2**32 - 1))
def test_a_folder_name_is_one_ascii_level_of_at_most_120_bytes(overrides, seed):
    check_name(folder_name(overrides, seed, ID), seed)


@pytest.mark.parametrize("length", range(60, 130))
def test_long_names_are_cut_but_keep_seed_and_id(length):
    check_name(folder_name(["k=" + "v" * (length - 2), "other=1"], 2**32 - 1, ID), 2**32 - 1)
    check_name(folder_name(["a=1"] * length, 0, ID), 0)


def test_a_run_is_found_by_its_id_however_it_was_asked_for(tmp_path):
    home = tmp_path / "main"
    new = find_folder(home, ["init=xavier"], 3, ID)
    assert new == home / f"init=xavier__seed=3-{ID}"
    assert not home.exists()  # asking makes nothing
    new.mkdir(parents=True)
    (home / "seed=3-ffffffff").mkdir()
    assert find_folder(home, [], 3, ID) == new
    assert find_folder(home, ["optimizer.lr=0.001"], 3, ID) == new
    assert find_folder(home, [], 3, "00000000") == home / "seed=3-00000000"


def test_a_request_knows_its_id_and_folder(tmp_path):
    config = composed("seed.value=5", "name=trial", f"output_dir={tmp_path}", "init=xavier")
    request = Request(config, ["seed.value=5", "name=trial", "init=xavier"])
    assert request.id == identity(config)
    assert request.folder == tmp_path / "trial" / f"init=xavier__seed=5-{request.id}"


def test_a_folder_made_meanwhile_by_another_process_is_seen(tmp_path):
    config = composed("name=trial", f"output_dir={tmp_path}")
    request = Request(config, ["init=xavier"])
    first = request.folder
    (request.home / f"other=1__seed=0-{request.id}").mkdir(parents=True)
    assert request.folder != first and request.folder.exists()


@pytest.mark.parametrize(
    "value", ["x" * 300, "größe/学习/../..", "../../etc", "/", "a b\tc", "💥" * 300, "", ".", "-"]
)
def test_odd_values_give_folders_that_are_one_ascii_level_and_apart(value, tmp_path):
    folders = []
    for text in (value, f"{value}y"):
        config = changed(composed(f"output_dir={tmp_path}"), ("model", "activation"), text)
        request = Request(config, [f"model.activation={text}"])
        folders.append(request.folder)
        check_name(request.folder.name, 0, request.id)
        assert request.folder.parent == tmp_path / "main"
        with claim_module.claim_run(request) as claim:
            assert claim.folder.is_dir()
            (claim.folder / "kept").touch()
    assert folders[0] != folders[1]
    assert sorted(path for path in (tmp_path / "main").iterdir() if path.is_dir()) == sorted(folders)


@pytest.mark.parametrize("levels", ["größe und 学习", "ü" * 127, f"{'a' * 255}/{'b c' * 80}", "./x/../y"])
def test_results_go_where_a_path_may_lead(levels, tmp_path):
    place = f"{tmp_path}/{levels}"
    assert output_dir_fault(place) == ""
    (tmp_path / "x").mkdir()
    with claim_module.claim_run(Request({**composed(), "output_dir": place})) as claim:
        assert claim.folder.is_dir()


# --- names that cannot be

BAD_NAMES = [
    "../../x",
    "/x",
    "a/b",
    "a\\b",
    "",
    ".",
    "..",
    "...",
    "a\0b",
    "a\nb",
    "a\n",
    " ",
    "größe",
    "x" * 121,
    "x" * 300,
]
BAD_PLACES = ["", " ", "a\0b", "a\nb", "x" * 256, f"a/{'ü' * 128}/b", "\udcff"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_told_in_one_short_line(name):
    check_refused("name", name, name_fault(name))


@pytest.mark.parametrize("place", BAD_PLACES)
def test_a_bad_place_is_told_in_one_short_line(place):
    check_refused("output_dir", place, output_dir_fault(place))


def check_refused(key: str, value: str, fault: str) -> None:
    assert re.fullmatch(rf"{key}=.{{0,60}}: must .{{1,70}}", fault) and fault.isprintable()
    with pytest.raises(UsageError) as raised:
        checks.check_shape({**composed(), key: value})
    assert raised.value.faults == [fault]
    assert told_of_sweep({key: value}) == [fault]


def told_of_sweep(config: dict, *overrides: str) -> list[str]:
    """What is said of a sweep before Hydra makes its folder."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return list(checks.home_faults(OmegaConf.create(config), parsed))


@pytest.mark.parametrize("name", ["a", "-", "v1.2", ".hidden", "a=b,c=d".replace(",", "+"), "x" * 120, "0"])
def test_a_good_name_is_taken(name):
    assert name_fault(name) == "" and told_of_sweep({"name": name}) == []


@pytest.mark.parametrize("argument", ["name=a,b", "name=choice(a,b)", "output_dir=a,b"])
def test_a_name_that_is_swept_is_left_to_the_runs(argument):
    key, _, value = argument.partition("=")
    assert told_of_sweep({key: f"/{value}\0"}, argument) == []


def test_a_name_that_is_not_known_yet_is_left_to_the_runs():
    assert told_of_sweep({"name": "${data.x}", "output_dir": "???"}) == []


@pytest.mark.parametrize("arguments", [["name=../../x"], ["-m", "name=../../x"], ["-m", f"name={'x' * 300}"]])
def test_a_bad_name_leaves_nothing_on_disk(arguments, tmp_path):
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    done = commands.run([TRAIN, "data=wine", *arguments], cwd=place)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: name=") and done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", place]
