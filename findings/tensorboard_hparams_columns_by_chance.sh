#!/bin/sh
# tensorboard 2.21.0 with tensorboard-data-server 0.7.2: where several runs describe the HParams tab (an Experiment summary,
# as hparams_config() and torch's add_hparams() write, the latter into every run), the tab has the columns of one of them, and
# which one is another after every start: the data server hands out runs in the order of a hash table with a random seed,
# and the plugin takes the first. Seen: six runs that describe a column each, eight starts over the same folder, four or
# five different tabs of one column. The rows are all there; settings and metrics that the chosen run does not describe are
# not shown and cannot be ticked. One description for all runs is the way out; --load_fast=false picks one for good.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorboard==2.21.0 tensorboard-data-server==0.7.2 'setuptools<81'
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

import tensorboard
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

print("tensorboard", tensorboard.__version__)
STARTS, RUNS = 8, 6


def content(tag, **data):
    plugin = SummaryMetadata.PluginData(
        plugin_name="hparams", content=HParamsPluginData(version=0, **data).SerializeToString()
    )
    empty = metadata.NULL_TENSOR
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=empty)])


def put(home):
    """Runs, each with a setting of its own and a description of the tab that has a column for it."""
    for number in range(RUNS):
        run = home / f"run{number}"
        run.mkdir(parents=True)
        name = f"setting{number}"
        experiment = api_pb2.Experiment(hparam_infos=[api_pb2.HParamInfo(name=name)])
        start = SessionStartInfo()
        start.hparams[name].number_value = 1.0
        with (run / "events.out.tfevents.1").open("wb") as file:
            writer = RecordWriter(file)
            for value in (
                content(metadata.EXPERIMENT_TAG, experiment=experiment),
                content(metadata.SESSION_START_INFO_TAG, session_start_info=start),
            ):
                writer.write(Event(step=0, wall_time=1.0, summary=value).SerializeToString())


def asked(url, what, **query):
    request = urllib.request.Request(f"{url}data/plugin/hparams/{what}", json.dumps(query).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def columns(home):
    """The columns of the tab that one start of TensorBoard has, once it has loaded all runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(home)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--host", "127.0.0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said = ""
        while not (found := re.search(r"at (http://127\.0\.0\.1:\d+/)", said)):
            said += process.stdout.readline()
        query = {"allowedStatuses": ["STATUS_UNKNOWN"], "startIndex": 0, "sliceSize": 99}
        until = time.monotonic() + 60
        while len(asked(found[1], "session_groups", **query).get("sessionGroups", [])) < RUNS:
            assert time.monotonic() < until
            time.sleep(0.2)
        return tuple(info["name"] for info in asked(found[1], "experiment")["hparamInfos"])
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


home = pathlib.Path(sys.argv[1]) / "home"
put(home)
seen = [columns(home) for _ in range(STARTS)]
print("columns of each start:", *(", ".join(names) for names in seen))
assert all(len(names) == 1 for names in seen)
assert len(set(seen)) > 1  # by chance all would be equal once in 280,000 times
PYTHON
