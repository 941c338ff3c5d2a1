# mypy: disable-error-code="import-untyped"
"""The tags of metrics in TensorBoard, and the charts and columns that are made of them.

Time Series sorts families by their first letters, capitals first, and unfolds the first two. So the metrics
of training and validation begin with capitals there: 'Train/loss' and 'Val/loss'.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

BEST = "best"  # family of tags: metrics of the weights that a run kept, once, at its end
FIRST = ("train", "val")


@functools.cache
def shown(key: str) -> str:
    """The tag of what `metrics.jsonl` calls `key`.

    Example:
        >>> shown("val/loss"), shown("train/batch_loss"), shown("gradients/norm")
        ('Val/loss', 'Train/batch_loss', 'gradients/norm')
    """
    family, _, name = key.partition("/")
    return f"{family.capitalize()}/{name}" if family in FIRST and name else key


def best(key: str) -> str:
    """The tag of a metric of the weights that a run kept.

    Example:
        >>> best("val/loss")
        'best/val/loss'
    """
    return f"{BEST}/{key}"


def columns(keys: Sequence[str], *, tested: bool) -> dict[str, str]:
    """The columns of results in the HParams tab, by tag: what a run's best weights have reached comes first.

    Args:
        keys: of the metrics of an epoch.
        tested: whether a run has a test part.

    Example:
        >>> columns(["train/loss", "val/loss"], tested=True)
        {'best/val/loss': 'best/val/loss', 'best/test/loss': 'best/test/loss', 'Val/loss': 'last/val/loss', \
'Train/loss': 'last/train/loss'}
    """
    validated = [key for key in keys if key.startswith("val/")]
    others = [key for key in keys if not key.startswith("val/")]
    names = dict.fromkeys(key.partition("/")[2] for key in (*validated, *others))
    chosen = [best(key) for key in (*validated, *(f"test/{name}" for name in names if tested))]
    return dict(zip(chosen, chosen, strict=True)) | {
        shown(key): f"last/{key}" for key in (*validated, *others)
    }


def charts(keys: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """The charts of the Custom Scalars tab by category and title, each as regular expressions of its tags.

    Args:
        keys: of the metrics of an epoch; the curves of one metric share a chart.
    """
    lines: dict[str, list[str]] = {}
    for key in keys:
        lines.setdefault(key.partition("/")[2], []).append(f"{shown(key)}$")
    both = any(key.startswith("val/") for key in keys)
    return {"train and validation" if both else "train": lines, "learning rate": {"lr": ["lr/lr"]}}


def layout(charts: Mapping[str, Mapping[str, Sequence[str]]]) -> Any:
    """The Layout of the Custom Scalars tab.

    Args:
        charts: for each category, for the title of each chart, the tags whose lines it shows: regular
            expressions that match from the start of the tag.
    """
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent

    made = Layout()
    for category, lines in charts.items():
        chart = [
            Chart(title=title, multiline=MultilineChartContent(tag=tags)) for title, tags in lines.items()
        ]
        made.category.append(Category(title=category, chart=chart))
    return made
