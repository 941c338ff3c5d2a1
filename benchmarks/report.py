"""What the page of a large sweep costs: time, size and memory, on folders that are copies of a real run's.

  python benchmarks/report.py RUN 1000          RUN: the folder of a run that has ended
  python benchmarks/report.py RUN 10000 random  every rate is another one, as in a random search

Each copy has a record, a config and metrics with a setting, a seed and values of its own; without `random`
five seeds of each setting. Times are of the processor, as others may use the machine too.
"""

import json
import random
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

INITS = ("xavier", "kaiming", "orthogonal", "lecun")
SCHEDULERS = ("constant", "cosine", "step", "linear", "exponential")
SEEDS = 5
FAILING = 0.6  # share of the largest rates that diverge


def write_runs(template: Path, home: Path, number: int, *, spread: bool) -> None:
    """Writes the folders of a sweep."""
    known = json.loads((template / "record.json").read_text())
    config = (template / "config.yaml").read_text()
    lines = (template / "metrics.jsonl").read_text().splitlines()
    draw = random.Random(0)
    rates = max(number // SEEDS // len(INITS) // len(SCHEDULERS), 1)
    for place in range(number):
        cell, seed = (place, 0) if spread else divmod(place, SEEDS)
        init, scheduler = INITS[cell % 4], SCHEDULERS[cell // 4 % 5]
        step = cell // 20 / rates
        rate = float(f"{10 ** (draw.uniform(-4, 1) if spread else -4 + 5 * step):.4g}")
        overrides = [f"init={init}", f"scheduler={scheduler}", f"optimizer.lr={rate}", f"seed.value={seed}"]
        factor = draw.lognormvariate(0, 0.05) * (1 + abs(step - 0.4)) * (1 + 0.1 * (cell % 4))
        folder = home / f"{'__'.join(overrides[:3])}__seed={seed}-{place:08x}"
        folder.mkdir()
        text = re.sub(r"^  lr: .*$", f"  lr: {rate!r}", config, count=1, flags=re.M)
        (folder / "config.yaml").write_text(
            re.sub(r"^  value: .*$", f"  value: {seed}", text, count=1, flags=re.M)
        )
        record = scaled(known, factor) | {
            "id": f"{place:08x}",
            "overrides": overrides,
            "choices": {**known["choices"], "init": init, "scheduler": scheduler},
        }
        if rate > 3 and draw.random() < FAILING:
            record |= {"status": "diverged", "reason": f"loss nan at step {place}", "best": None}
        (folder / "record.json").write_text(json.dumps(record))
        (folder / "metrics.jsonl").write_text(
            "".join(f"{json.dumps(scaled_line(x, factor))}\n" for x in lines)
        )


def scaled(known: dict, factor: float) -> dict:
    """A record with other values of its metrics."""
    best = known["best"]
    metrics = {tag: value * factor for tag, value in best["metrics"].items()}
    return known | {"best": best | {"value": best["value"] * factor, "metrics": metrics}}


def scaled_line(line: str, factor: float) -> dict:
    """A line of metrics with other values of the losses."""
    return {tag: value * factor if "loss" in tag else value for tag, value in json.loads(line).items()}


def main(template: str, number: str, kind: str = "grid") -> None:
    """Writes a sweep and its page, and prints what it cost."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "main"
        home.mkdir()
        write_runs(Path(template), home, int(number), spread=kind == "random")
        from sweepwise.results import answer, loading
        from sweepwise.results.page import files

        begun = [time.process_time()]
        table = loading.load(home)
        begun.append(time.process_time())
        said = answer.answer(table)
        begun.append(time.process_time())
        found = files.composed(said)
        begun.append(time.process_time())
        files.write(said, found, home / "report.html", "en")
        begun.append(time.process_time())
        for word, before, after in zip(("load", "answer", "content", "html"), begun, begun[1:], strict=False):
            print(f"{word:<10}{after - before:.2f} s")
        print(f"page      {(home / 'report.html').stat().st_size / 1e6:.2f} MB")
        for key, part in found.items():
            size = len(json.dumps(part, separators=(",", ":"), ensure_ascii=False))
            if size > 20000:
                print(f"  {key:<12}{size / 1e3:.0f} kB")
        print(f"memory    {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
