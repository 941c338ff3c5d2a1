#!/bin/sh
# tensorboard 2.21.0: the Custom Scalars tab shows the layouts of all runs, merged by the titles of their categories. A
# category that the first run does not have is copied into the merged layout, but the next run's charts of that category
# are added to the original, which nobody looks at again: they are lost without a word. So where one run shows other
# charts than those before it, the tab has them or not by which run comes first in the alphabet. Seen: a run 'a' without
# the category 'metrics', 'b' with its chart 'loss', 'c' with 'loss' and 'accuracy': the tab has 'loss' alone. Without 'a'
# it has both. (layout_impl maps the title to the category of the run, not to the copy that it has added.)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorboard==2.21.0 'setuptools<81'
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import pathlib
import sys

import tensorboard
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.summary.writer.record_writer import RecordWriter

print("tensorboard", tensorboard.__version__)


def category(title, *tags):
    lines = [layout_pb2.Chart(title=tag, multiline=layout_pb2.MultilineChartContent(tag=[tag])) for tag in tags]
    return layout_pb2.Category(title=title, chart=lines)


RUNS = {
    "a": category("rate", "lr"),
    "b": category("metrics", "loss"),
    "c": category("metrics", "loss", "accuracy"),
}


def shown(name, *runs):
    """The charts of the tab, by category, where these runs are."""
    home = pathlib.Path(sys.argv[1]) / name
    for run in runs:
        (home / run).mkdir(parents=True)
        with (home / run / "events.out.tfevents.1").open("wb") as file:
            layout = layout_pb2.Layout(category=[RUNS[run]]).SerializeToString()
            data = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME)
            value = Summary.Value(
                tag=metadata.CONFIG_SUMMARY_TAG,
                metadata=SummaryMetadata(plugin_data=data),
                tensor=TensorProto(dtype="DT_STRING", string_val=[layout]),
            )
            content = Summary(value=[value])
            RecordWriter(file).write(Event(step=0, wall_time=1.0, summary=content).SerializeToString())
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(home)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(home))
    plugin = CustomScalarsPlugin(TBContext(logdir=str(home), data_provider=provider))
    layout = json.loads(plugin.layout_impl(RequestContext(), ""))
    return {one["title"]: [chart["title"] for chart in one["chart"]] for one in layout["category"]}


without, with_a = shown("without", "b", "c"), shown("with", "a", "b", "c")
print("b and c:   ", without)
print("a, b and c:", with_a)
assert without == {"metrics": ["loss", "accuracy"]}
assert with_a == {"rate": ["lr"], "metrics": ["loss"]}
PYTHON
