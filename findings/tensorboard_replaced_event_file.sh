#!/bin/sh
# tensorboard 2.21.0 with tensorboard-data-server 0.7.2: an event file that is replaced as a whole (written aside, then
# renamed over the old one, as any careful program replaces a file) is not read again by a TensorBoard that is open. The
# default data server keeps the points of the old file for ever. --load_fast=false is worse: it goes on in the new file
# at the offset that it had reached in the old one, so the curve is a mixture that was never measured. Seen: losses
# 1 2 3 replaced by 5 6 7 8: the default still shows 1 2 3, --load_fast=false shows 1 2 3 8. A file of a new name beside
# it, with the old one removed, is shown by the default server: 5 6 7 8; --load_fast=false keeps 1 2 3.
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
import urllib.error
import urllib.request

import tensorboard
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

print("tensorboard", tensorboard.__version__)
OLD, NEW = [1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0]


def put(path, losses):
    aside = path.with_name(".aside")
    with aside.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        for step, loss in enumerate(losses):
            value = Summary.Value(tag="loss", simple_value=loss)
            writer.write(Event(step=step, wall_time=1.0, summary=Summary(value=[value])).SerializeToString())
        writer.flush()
    os.replace(aside, path)


def shown(url):
    try:
        with urllib.request.urlopen(f"{url}data/plugin/scalars/scalars?tag=loss&run=run") as answer:
            return [point[2] for point in json.load(answer)]
    except urllib.error.HTTPError:
        return []


def watched(name, fast, second):
    run = pathlib.Path(sys.argv[1]) / name / "run"
    run.mkdir(parents=True)
    first = run / "events.out.tfevents.1"
    put(first, OLD)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run.parent), "--load_fast", fast]
    process = subprocess.Popen(
        [*command, "--reload_interval", "1", "--port", "0", "--host", "127.0.0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said = ""
        while not (found := re.search(r"at (http://127\.0\.0\.1:\d+/)", said)):
            said += process.stdout.readline()
        until = time.monotonic() + 60
        while shown(found[1]) != OLD:
            assert time.monotonic() < until, said
            time.sleep(0.5)
        put(run / second, NEW)
        if run / second != first:
            first.unlink()
        time.sleep(10)  # ten reloads
        return shown(found[1])
    finally:
        os.killpg(process.pid, signal.SIGTERM)


wanted = {
    ("true", "events.out.tfevents.1"): OLD,
    ("false", "events.out.tfevents.1"): [*OLD, NEW[-1]],
    ("true", "events.out.tfevents.2"): NEW,
    ("false", "events.out.tfevents.2"): OLD,
}
for number, ((fast, second), points) in enumerate(wanted.items()):
    found = watched(str(number), fast, second)
    how = "the same name" if second.endswith("1") else "a new name"
    print(f"--load_fast={fast}, {how}: {found}")
    assert found == points, points
PYTHON
