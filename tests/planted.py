"""Simulated sweeps with one fault of the search space, and such without it, of several shapes.

Costs are in standard deviations of a run. Half of a run's variance is its seed's, shared by all settings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from sweepwise.results.answer import Answer, ranking
from sweepwise.results.loading import from_records
from sweepwise.results.table import Row, Table

RATES = (0.001, 0.01, 0.1, 1.0, 10.0)
INITS = ("xavier", "kaiming", "lecun")
DECAYS = (0.0, 0.0001, 0.001, 0.01)
KEYS = ("optimizer.lr", "init", "optimizer.weight_decay")


@dataclass(frozen=True)
class Shape:
    """Of a sweep.

    Attributes:
        keys: how many are swept, 1 to 3: the rate, the initialisation, the weight decay.
        seeds: of each setting.
        settings: drawn at random; 0: a grid.
        noise: standard deviation of a run.
    """

    keys: int
    seeds: int
    settings: int = 0
    noise: float = 1.0

    def __str__(self) -> str:
        what = f"{self.settings} at random" if self.settings else "grid"
        return f"{what}, {self.keys} keys, {self.seeds} seeds, noise {self.noise:g}"


GRIDS = [
    Shape(keys, seeds, noise=noise) for keys in (1, 2, 3) for seeds, noise in ((2, 1), (3, 0.01), (5, 1))
]
RANDOM = [Shape(3, 1, 40), Shape(2, 2, 24), Shape(3, 3, 60)]
Cost = Callable[[float, int, int], float]  # of the place of the rate in 0 .. 4, of the init, of the decay


def sweep(shape: Shape, cost: Cost, g: np.random.Generator, spread: float = 0.0) -> Table:
    """A sweep with these costs; noise grows by `spread` times the cost above the best."""
    rows = _grid(shape) if not shape.settings else _drawn(shape, g)
    costs = np.array([cost(*row) for row in rows])
    seeds = g.normal(size=shape.seeds) * np.sqrt(0.5)
    own = g.normal(size=(len(rows), shape.seeds)) * np.sqrt(0.5)
    deviation = 1 + spread * (costs - costs.min())
    values = 100 + costs[:, None] + deviation[:, None] * (own + seeds)
    return from_records(
        [
            {**_named(shape, row), "seed.value": seed, "val/loss": shape.noise * float(value)}
            for row, results in zip(rows, values, strict=True)
            for seed, value in enumerate(results)
        ],
        "val/loss",
        ["seed.value"],
    )


def _grid(shape: Shape) -> list[tuple[float, int, int]]:
    sides = (range(5), range(3), range(4))
    return list(product(*(side if key < shape.keys else [0] for key, side in enumerate(sides))))


def _drawn(shape: Shape, g: np.random.Generator) -> list[tuple[float, int, int]]:
    return [(g.uniform(0, 4), int(g.integers(3)), int(g.integers(4))) for _ in range(shape.settings)]


def _named(shape: Shape, row: tuple[float, int, int]) -> dict[str, Any]:
    rate = RATES[int(row[0])] if float(row[0]).is_integer() else float(f"{10 ** (row[0] - 3):.4g}")
    return dict(zip(KEYS[: shape.keys], (rate, INITS[row[1]], DECAYS[row[2]]), strict=False))


def answered(table: Table) -> Answer:
    """An answer without comparisons, which most kinds of faults do not need."""
    return Answer(table, ranking(table), {}, {}, 0.95, None, None, None)


def others(g: np.random.Generator, size: float = 3.0) -> Callable[[int, int], float]:
    """What the init and the decay do, alone; the best decay is no edge."""
    inits, decays = g.normal(size=3) * size, g.normal(size=4) * size
    decays[g.integers(1, 3)] = decays.min()
    return lambda init, decay: float(inits[init] + decays[decay])


def inside(g: np.random.Generator, steepest: float = 20.0) -> Cost:
    """A parabola whose optimum is inside the range of the rate, or nothing at all."""
    optimum, bend, rest = g.uniform(1, 3), g.choice([0, g.uniform(0, steepest)]), others(g)
    return lambda rate, init, decay: bend * (rate - optimum) ** 2 + rest(init, decay) * (bend > 0)


def beyond(g: np.random.Generator, step: float) -> Cost:
    """A parabola with its optimum beyond an edge of the rate, which is `step` better than its neighbour."""
    optimum, rest = g.choice([-1, 5]), others(g)
    return lambda rate, init, decay: step / 3 * (rate - optimum) ** 2 + rest(init, decay)


def coarse(g: np.random.Generator, gain: float) -> Cost:
    """A parabola whose optimum is between two rates, better than both by `gain` or more."""
    offset, rest = g.uniform(0.3, 0.5) * g.choice([-1, 1]), others(g)
    bend, optimum = gain / offset**2, 2 + offset + g.choice([0, -np.sign(offset)])
    return lambda rate, init, decay: bend * (rate - optimum) ** 2 + rest(init, decay)


def fine(g: np.random.Generator) -> Cost:
    """No rate between two is better by 0.95 deviations: flat, a parabola, or a cliff behind a plain."""
    kind, inits, cut = g.integers(3), others(g), g.integers(2, 4)

    def rest(init: int, decay: int) -> float:
        return inits(init, 0)

    if kind == 0:
        return lambda rate, init, decay: 0.0
    if kind == 1:
        offset = g.uniform(-0.5, 0.5)
        bend, optimum = min(0.95 / offset**2, 60), g.choice([1, 2, 3]) + offset
        return lambda rate, init, decay: bend * (rate - optimum) ** 2 + rest(init, decay)
    slope, cliff = g.uniform(0, 1), g.uniform(20, 200)
    return lambda rate, init, decay: slope * (cut - rate) + cliff * (rate > cut) + rest(init, decay)


def idle(g: np.random.Generator, effect: float) -> Cost:
    """Rate and init matter; the decay has the effect, between its values on average or at one init alone."""
    kind, alone, rest = g.integers(3), g.integers(2), others(g, 2)
    middle, bend = g.uniform(1, 3), g.uniform(1, 5)
    marks = [np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])][kind] * effect

    def cost(rate: float, init: int, decay: int) -> float:
        here = 3 * (init == 0) if alone else 1
        return float(bend * (rate - middle) ** 2 + rest(init, 0) + here * marks[decay])

    return cost


def slight(g: np.random.Generator) -> Cost:
    """Rates and inits of which the best and the worst are 0.95 deviations apart."""
    inits, rates = g.permutation([0, 0.5, 0.95]), g.permutation([0, 0.3, 0.6, 0.9, 0.95])
    return lambda rate, init, decay: float(inits[init] + rates[int(rate)])


def failing(shape: Shape, g: np.random.Generator, planted: bool, flip: float = 0.0) -> Table:
    """A sweep in which runs fail from a rate on that depends on the init; or at random; or of one init."""
    table = sweep(shape, inside(g), g)
    limits = g.integers(2, 4, size=3) + 0.5 if shape.settings else g.integers(2, 5, size=3)
    chance = g.uniform(0.02, 0.5)
    bad = INITS[int(g.integers(3))] if g.uniform() < 0.3 else ""
    records = []
    for row in table.rows:
        named = dict(zip(table.settings, row.setting, strict=True))
        place = np.log10(named["optimizer.lr"]) + 3
        init = INITS.index(named["init"]) if "init" in named else 0
        fails = place >= limits[init] - 1e-6 if planted else g.uniform() < chance or named.get("init") == bad
        if planted and g.uniform() < flip:
            fails = not fails
        seed = dict(zip(table.replicates, row.replicate, strict=True))
        records.append({**named, **seed, **_ended(row, "diverged" if fails else "")})
    return from_records(records, "val/loss", ["seed.value"])


def accidents(shape: Shape, g: np.random.Generator) -> Table:
    """A sweep in which all runs of some settings failed together, as on machines that were lost."""
    table = sweep(shape, inside(g), g)
    chance = g.uniform(0.1, 0.4)
    lost = {setting for setting in table.cells if g.uniform() < chance}
    return from_records(
        [
            {
                **dict(zip(table.settings, row.setting, strict=True)),
                **dict(zip(table.replicates, row.replicate, strict=True)),
                **_ended(row, "failed" if row.setting in lost else ""),
            }
            for row in table.rows
        ],
        "val/loss",
        ["seed.value"],
    )


def partly(shape: Shape, g: np.random.Generator, share: float) -> Table:
    """A sweep in which a share of the runs at the largest rate diverge, and no others."""
    table = sweep(shape, inside(g), g)
    records = []
    for row in table.rows:
        named = dict(zip(table.settings, row.setting, strict=True))
        fails = named["optimizer.lr"] == RATES[-1] and g.uniform() < share
        seed = dict(zip(table.replicates, row.replicate, strict=True))
        records.append({**named, **seed, **_ended(row, "diverged" if fails else "")})
    return from_records(records, "val/loss", ["seed.value"])


def _ended(row: Row, failure: str) -> dict[str, Any]:
    return {"val/loss": None, "status": failure} if failure else {"val/loss": row.value}


Curves = Callable[[Row], list[Mapping[str, Any]]]


def trained(
    shape: Shape,
    curve: Callable[[int, int, np.random.Generator], np.ndarray],
    g: np.random.Generator,
    patience: int = 0,
    scheduler: str = "constant",
    rates: Sequence[float] = (),
) -> tuple[Table, Curves]:
    """A sweep of four settings with curves, and with early stopping where there is patience.

    Its scheduler is known by name, or by the `rates` that it has logged at each epoch.
    """
    records, lines = [], {}
    for setting in range(4):
        for seed in range(shape.seeds):
            costs = curve(setting, seed, g) * shape.noise
            end = len(costs)
            if patience:
                best = 0
                for epoch, cost in enumerate(costs):
                    best = epoch if cost < costs[best] else best
                    if epoch - best >= patience:
                        end = epoch + 1
                        break
            status = "stopped early" if end < len(costs) else "finished"
            kept = costs[:end]
            records.append(
                {
                    "scheduler": scheduler,
                    "init": f"i{setting}",
                    "seed.value": seed,
                    "val/loss": float(kept.min()),
                    "status": status,
                }
            )
            lines[f"i{setting}", seed] = [
                {"epoch": e, "val/loss": float(c)} | ({"lr/lr": float(rates[e])} if len(rates) else {})
                for e, c in enumerate(kept)
            ]
    table = from_records(records, "val/loss", ["seed.value"])
    return table, lambda row: lines[row.setting[1], row.replicate[0]]


def falling(epochs: int, remaining: float) -> Callable[[int, int, np.random.Generator], np.ndarray]:
    """Curves towards a floor, of which half as many epochs again would still gain `remaining` deviations."""

    def curve(setting: int, seed: int, g: np.random.Generator) -> np.ndarray:
        t = np.arange(1, epochs + 1) / epochs
        power = 1 / (1 - 1.5**-1)  # of 1 / t, scaled to gain 1 from 1 to 1.5
        return remaining * power / t + setting + g.normal() + 0.3 * g.normal(size=epochs)

    return curve


def settled(kind: int, epochs: int) -> Callable[[int, int, np.random.Generator], np.ndarray]:
    """Curves that have come to rest: at a floor, then overfitting, noise alone, or annealed by a cosine."""

    def curve(setting: int, seed: int, g: np.random.Generator) -> np.ndarray:
        t = np.arange(epochs) / epochs
        shape = (10 * np.exp(-25 * t), 10 * np.exp(-25 * t) + 3 * t, 0 * t, 3 * np.cos(np.pi * t))[kind]
        return shape + setting + g.normal() + 0.3 * g.normal(size=epochs)

    return curve


def stairs(
    share: float, depth: float, patience: int
) -> Callable[[int, int, np.random.Generator], np.ndarray]:
    """Curves that lie on a plain first and fall by `depth` then; a share of runs lies there for too long."""

    def curve(setting: int, seed: int, g: np.random.Generator) -> np.ndarray:
        long = g.uniform() < share
        start = int(g.integers(1, 3) + (patience * g.uniform(1.2, 2.5) if long else patience * 0.5))
        t = np.arange(80)
        fall = depth * np.clip(1 - (t - start) / 3, 0, 1)
        wiggle = 0.02 * depth * np.maximum.accumulate(np.abs(g.normal(size=80)))
        return (
            fall + setting + g.normal() * 0.5 + wiggle * (t < start) + 0.1 * g.normal(size=80) * (t >= start)
        )

    return curve


# --- sweeps without a fault in which runs are not independent, noise is unequal, or costs are not smooth


def alike(
    shape: Shape, cost: Callable[[float, int], float], g: np.random.Generator, share: float = 0.9
) -> Table:
    """Rates, and of three keys two decays, and a last key that does little: a seed's runs are nearly one.

    Of the variance of a run `share` is that of the other settings and the seed.
    """
    records = []
    for place, rate in enumerate(RATES if shape.keys == 2 else RATES[:2]):
        for decay in range(1 if shape.keys == 2 else 2):
            common = g.normal(size=shape.seeds)
            named = {KEYS[0]: rate, **({KEYS[2]: DECAYS[decay]} if shape.keys > 2 else {})}
            for copy in "abcdefgh":
                own = g.normal(size=shape.seeds)
                values = 100 + cost(place, decay) + np.sqrt(share) * common + np.sqrt(1 - share) * own
                records += [
                    {**named, "model.idle": copy, "seed.value": seed, "val/loss": float(value)}
                    for seed, value in enumerate(values)
                ]
    return from_records(records, "val/loss", ["seed.value"])


def unequal(shape: Shape, g: np.random.Generator) -> Table:
    """Equal means; the noise of the last rate is 5 or 20 times as large, or it grows threefold a rate."""
    factors = ([1, 1, 1, 1, 5], [1, 1, 1, 1, 20], [1, 3, 9, 27, 81])[g.integers(3)]
    table = sweep(shape, lambda rate, init, decay: 0.0, g)
    place = table.settings.index(KEYS[0])
    return from_records(
        [
            {
                **dict(zip(table.settings, row.setting, strict=True)),
                "seed.value": row.replicate[0],
                "val/loss": 1e4 + ((row.value or 0) - 100) * factors[RATES.index(row.setting[place])],
            }
            for row in table.rows
        ],
        "val/loss",
        ["seed.value"],
    )


def kinked(g: np.random.Generator) -> Cost:
    """The best rate is the best there is, or nearly: a V, a flat valley, a fourth power."""
    kind, steep, ratio = g.integers(3), g.uniform(5, 100), g.uniform(1.5, 3)
    optimum = 2 + g.uniform(-0.3, 0.3)
    if kind == 0:
        return lambda rate, init, decay: steep * max(2 - rate, ratio * (rate - 2))
    if kind == 1:
        return lambda rate, init, decay: 3 * steep * max(abs(rate - optimum) - 0.5, 0) ** 2
    return lambda rate, init, decay: steep * (rate - optimum) ** 4  # 0.8 deviations at most


def stepped(shape: Shape, g: np.random.Generator) -> Table:
    """Accuracies over 36 or 50 examples of two inits, more than a deviation apart, and often equal."""
    first, second, examples = ((1.0, 0.98, 36), (1.0, 0.985, 50), (0.999, 0.98, 50))[g.integers(3)]
    records = [
        {"init": init, "seed.value": seed, "val/accuracy": float(g.binomial(examples, share) / examples)}
        for init, share in (("xavier", first), ("kaiming", second))
        for seed in range(shape.seeds)
    ]
    return from_records(records, "val/accuracy", ["seed.value"])


EPOCHS = 60
SCHEDULES = {  # the rate by epoch; what is left of the cost follows it
    "step": np.where(np.arange(EPOCHS) < 45, 1.0, 0.1),
    "late step": np.where(np.arange(EPOCHS) < 52, 1.0, 0.1),
    "cosine": (1 + np.cos(np.pi * np.arange(EPOCHS) / EPOCHS)) / 2,
    "linear": 1 - np.arange(EPOCHS) / EPOCHS,
}


def following(
    rates: np.ndarray, size: float, power: float
) -> Callable[[int, int, np.random.Generator], np.ndarray]:
    """Curves at rest but for a part that follows the rate, by a power: more epochs would bring nothing."""

    def curve(setting: int, seed: int, g: np.random.Generator) -> np.ndarray:
        start = 12 * np.exp(-20 * np.arange(EPOCHS) / EPOCHS)
        return start + size * rates**power + setting + g.normal() + 0.3 * g.normal(size=EPOCHS)

    return curve


def drifting(g: np.random.Generator, correlation: float, epochs: int, deviation: float = 1.0) -> np.ndarray:
    """Noise of each epoch that hangs on that of the one before."""
    noise = g.normal(size=epochs)
    for epoch in range(1, epochs):
        noise[epoch] = correlation * noise[epoch - 1] + np.sqrt(1 - correlation**2) * noise[epoch]
    return deviation * noise


def moving_together(
    g: np.random.Generator, correlation: float
) -> Callable[[int, int, np.random.Generator], np.ndarray]:
    """Curves at rest with one noise for all runs, as of a validation set that suits some epochs."""
    common = drifting(g, correlation, 30)
    return lambda setting, seed, g: common + 0.3 * g.normal() + 0.3 * g.normal(size=30)


def resting(
    noise: float, correlation: float, rise: float = 0.0
) -> Callable[[int, int, np.random.Generator], np.ndarray]:
    """Curves that learn nothing after five epochs, or overfit from the tenth on; `noise`: of an epoch."""

    def curve(setting: int, seed: int, g: np.random.Generator) -> np.ndarray:
        t = np.arange(80.0)
        learnt = 20 * np.exp(-0.8 * t) + rise * np.maximum(t - 10, 0)
        return learnt + g.normal() + drifting(g, correlation, 80, noise)

    return curve


def slowing(correlation: float) -> Callable[[int, int, np.random.Generator], np.ndarray]:
    """Curves that have learnt all but a twentieth of a deviation when a patience of 10 epochs ends them."""
    return lambda setting, seed, g: (
        10 * np.exp(-np.arange(80) / 5) + 0.5 * g.normal() + drifting(g, correlation, 80)
    )
