"""Shows what a seed fixes: the weights of a small layer without one, and twice with the same one.

    python scripts/show_seed.py
    python scripts/show_seed.py seed.value=7
    python scripts/show_seed.py seed.value=42 seed.init=1 seed.data=2

Then the order of the first epochs and the dropout masks of the first steps: they are functions of
(seed, epoch) and (seed, step), so drawing something else in between changes neither.
"""

from pathlib import Path

from sweepwise import cli
from sweepwise.errors import UsageError

CONF = Path(__file__).parents[1] / "conf"
OWN = "seed."


def main(arguments: list[str]) -> None:
    """Prints the demonstration."""
    if others := [argument for argument in arguments if not argument.startswith(OWN)]:
        raise UsageError([f"{other}: must be seed.KEY=VALUE" for other in others])
    request = cli.composed(["data=wine", "seed.value=42", *arguments], CONF)

    import torch
    from torch import nn

    from sweepwise.run import build
    from sweepwise.seed import Noise

    parts = build(request)
    seeds, data = parts.seeds, parts.data

    def layer() -> str:
        linear = nn.Linear(2, 1)
        weight, bias = linear.weight[0].tolist(), linear.bias.item()
        return f"weight {weight[0]:7.4f} {weight[1]:7.4f}   bias {bias:7.4f}"

    torch.seed()
    print(f"no seed             {layer()}")
    for _ in range(2):
        seeds.apply()
        print(f"seed.init={seeds.init:<10}{layer()}")
    for attempt in ("", ", after other draws"):
        order = " ".join(map(str, data.order(seeds.data, 1)[:8].tolist()))
        print(f"seed.data={seeds.data:<10}order of epoch 1: {order}{attempt}")
        torch.randn(1000)
    dropout = nn.Dropout(0.5)
    noise = Noise(seeds.noise, dropout, torch.device("cpu"))
    for attempt in ("", ", after other draws"):
        noise.begin(1)
        mask = " ".join(str(int(kept > 0)) for kept in dropout(torch.ones(8)))
        print(f"seed.noise={seeds.noise:<9}dropout of step 1: {mask}{attempt}")
        torch.randn(1000)


if __name__ == "__main__":
    cli.script(main, __doc__)
