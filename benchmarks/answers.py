"""How long a sweep's answer takes: 200 runs, as at the end of a sweep, and 10,000.

  python benchmarks/answers.py            trains one run, and writes the others from its record

Each figure is that of a process of its own. The promises: 200 runs are answered in 0.3 s, with imports but
for what a sweep needs anyway (numpy, yaml); 10,000 are loaded in 5 s and answered in 10 s, in at most 1 GB.
"""

import copy
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
MEASURED = """
import sys, time, resource
import numpy, yaml
before = time.perf_counter()
from sweepwise.results import answer, loading, words
imported = time.perf_counter()
found = loading.load(sys.argv[1])
loaded = time.perf_counter()
text = words.text(words.summary(answer.answer(found, thorough=False)))
answered = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
lines = len(text.splitlines())
print(imported - before, loaded - imported, answered - loaded, answered - before, peak, lines)
"""


def real_run(home: Path) -> Path:
    """Trains one run; returns its folder."""
    arguments = [
        "data=wine",
        "optimizer=sgd",
        "regularizer=dropout",
        "trainer.max_epochs=5",
        "early_stop=none",
    ]
    place = [f"output_dir={home}", "name=one", "progress=false", "monitor=none"]
    command = [sys.executable, ROOT / "train.py", *arguments, *place]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (record,) = home.glob("one/*/record.json")
    return record.parent


def write(home: Path, model: Path, rates: int, rows: int, seeds: int) -> None:
    """Writes runs like one that was trained: so many rates times dropout rates times seeds."""
    config = yaml.safe_load((model / "config.yaml").read_text())
    known = json.loads((model / "record.json").read_text())
    generator = np.random.default_rng(0)
    for number, (rate, row, seed) in enumerate(itertools.product(range(rates), range(rows), range(seeds))):
        changed = copy.deepcopy(config)
        changed["optimizer"]["lr"] = round(0.001 * 1.01**rate, 8)
        changed["regularizer"]["dropout"]["p"] = row / (2 * rows)
        changed["seed"] |= {"value": seed, "data": seed, "init": seed, "noise": seed}
        value = 0.5 + 0.01 * row + float(generator.normal(0, 0.05))
        best = known["best"] | {"value": value, "metrics": known["best"]["metrics"] | {"val/loss": value}}
        folder = home / f"run__seed={seed}-{number:08x}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
        (folder / "record.json").write_text(
            json.dumps(known | {"id": f"{number:08x}", "best": best}, indent=2)
        )


def measured(home: Path) -> str:
    """What one process took."""
    done = subprocess.run([sys.executable, "-c", MEASURED, home], check=True, capture_output=True, text=True)
    imported, loaded, answered, whole, peak, lines = map(float, done.stdout.split())
    parts = f"imports {imported:.2f} s, load {loaded:.2f} s, answer {answered:.2f} s, in all {whole:.2f} s"
    return f"{parts}, {peak:.2f} GB, {lines:.0f} lines"


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = real_run(home)
        for name, shape in {"200": (4, 10, 5), "10000": (100, 10, 10)}.items():
            write(home / name, model, *shape)
            for _ in range(3):
                print(f"{name:>6} runs: {measured(home / name)}", flush=True)


if __name__ == "__main__":
    main()
