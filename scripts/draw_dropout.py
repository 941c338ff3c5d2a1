"""Draws dropout on and off: the same input several times, and trainings with and without it.

    python scripts/draw_dropout.py                            p 0.5, MNIST-1D, 40 epochs, the seeds 0, 1, 2
    python scripts/draw_dropout.py regularizer.dropout.p=0.2 trainer.max_epochs=20 seeds=0,1

While training every pass drops other units, so the outputs differ; in evaluation nothing is dropped and
they are equal. The runs are train.py's, kept in outputs/dropout; whatever else train.py takes is taken
here. figure=PATH says where the picture goes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.store import history
from sweepwise.store.request import Request
from sweepwise.tools import figure, scripting

if TYPE_CHECKING:
    from numpy.typing import NDArray


CONF = Path(__file__).parents[1] / "conf"
RUN = ["name=dropout", "data=mnist1d", "early_stop=none", "trainer.max_epochs=40", "progress=false"]
PASSES = 5
PANELS = ("train", "eval")


def passes(request: Request) -> "dict[str, NDArray[Any]]":
    """The outputs of a fresh network for one example, several times in each mode.

    Returns:
        'train' and 'eval': (passes, outputs).
    """
    import torch

    from sweepwise.run import build
    from sweepwise.seed import Noise

    parts = build(request)
    network, (x, _) = parts.model, parts.data.sample(1)
    noise = Noise(parts.seeds.noise, network, x.device)
    passes = {}
    for mode in PANELS:
        network.train(mode == "train")
        rows = []
        for step in range(PASSES):
            noise.begin(step)
            with torch.no_grad():
                rows.append(network(x)[0].cpu())
        passes[mode] = torch.stack(rows).numpy()
    return passes


def curves(requests: Mapping[str, Sequence[Request]]) -> dict[str, list[list[dict[str, Any]]]]:
    """The metrics of runs after each epoch, by the name of their group; trains those that have not been."""
    from sweepwise.run import train

    return {
        name: [history.history(scripting.trained(request, train)) for request in group]
        for name, group in requests.items()
    }


def draw(
    outputs: "Mapping[str, NDArray[Any]]", histories: Mapping[str, list[list[dict[str, Any]]]], path: Path
) -> None:
    """Four panels: the outputs in each mode, the loss of each part."""
    picture = figure.new(2, 2, width=4.8, height=3.1)
    titles = {
        "train": figure.label("training mode: 5 passes differ", "训练模式：5 次前向结果各不相同"),
        "eval": figure.label("evaluation mode: 5 passes are equal", "评估模式：5 次前向结果完全相同"),
    }
    for place, mode in enumerate(PANELS, 1):
        axes = picture.add_subplot(2, 2, place)
        for row in outputs[mode]:
            axes.plot(row, marker="o", markersize=4, linewidth=0.8)
        axes.set_title(titles[mode])
        axes.set_xlabel(figure.label("output", "输出单元"))
        axes.set_ylabel("logit")
        axes.grid(True, alpha=0.3)
    for place, tag in enumerate(("train/loss", "val/loss"), 3):
        axes = picture.add_subplot(2, 2, place)
        scripting.draw_curves(axes, histories, tag)
        axes.set_xlabel(figure.label("epoch", "轮次 (epoch)"))
        axes.set_ylabel(tag)
    axes.legend()
    figure.finish(picture, path)


def main(arguments: list[str]) -> None:
    """Draws what the arguments ask for."""
    own, overrides = scripting.settings(arguments, figure="outputs/figures/draw_dropout.png", seeds="0,1,2")
    seeds = scripting.words("seeds", own["seeds"])
    if clash := [o for o in overrides if o.startswith(("regularizer=", "seed.value="))]:
        raise UsageError([f"{clash[0]}: is set here; say seeds=0,1 or regularizer.dropout.p=0.2"])
    shared = [o for o in overrides if not o.startswith("regularizer.")]
    p = [o for o in overrides if o.startswith("regularizer.")]
    dropped = [
        cli.composed([*RUN, "regularizer=dropout", *p, *shared, f"seed.value={seed}"], CONF) for seed in seeds
    ]
    plain = [cli.composed([*RUN, *shared, f"seed.value={seed}"], CONF) for seed in seeds]
    if dropped[0].config["data"]["validation"] == 0:
        raise UsageError(["data.validation=0: must be more, since the loss of the validation part is drawn"])
    rate = dropped[0].config["regularizer"]["dropout"]["p"]
    outputs = passes(dropped[0])
    for mode, rows in outputs.items():
        same = bool((rows == rows[0]).all())
        print(f"{mode:<14}{PASSES} passes of the same input are equal: {same}")
    without, with_dropout = figure.label("no dropout", "无 Dropout"), f"dropout p={rate:g}"
    histories = curves({without: plain, with_dropout: dropped})
    for name, runs in zip(("without", "with"), histories.values(), strict=True):
        losses = [[run[-1][tag] for run in runs] for tag in ("train/loss", "val/loss")]
        texts = [" ".join(f"{loss:.3f}" for loss in part) for part in losses]
        print(f"{name:<14}last train/loss {texts[0]}   val/loss {texts[1]}")
    draw(outputs, histories, Path(own["figure"]))


if __name__ == "__main__":
    cli.script(main, __doc__)
