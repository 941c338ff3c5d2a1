"""Plants each fault of a search space in five real sweeps, and counts in how many the critique finds it.

  python benchmarks/critique.py            all kinds: 40 sweeps of seconds each
  python benchmarks/critique.py edge coarse

Rates over 100 simulated sweeps each: pytest tests/test_results_critique.py -m slow -s -k planted_faults
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from sweepwise.results.answer import answer
from sweepwise.results.critique import critique
from sweepwise.results.loading import load

TRAIN = Path(__file__).parents[1] / "train.py"
QUICK = ["trainer.device=cpu", "monitor=none", "checkpoint=end", "progress=false"]
SETS = ("wine", "breast_cancer", "digits", "moons", "blobs")
NEVER = "early_stop=none"
SGD = "optimizer=sgd"
INITS = "init=xavier,kaiming"
SHORT = "trainer.max_epochs=5"


def on_each(*words: str) -> list[list[str]]:
    """The sweep on five data sets."""
    return [[f"data={name}", "model.hidden=[16]", *words] for name in SETS]


SWEEPS = {
    "edge": on_each(SGD, "optimizer.lr=0.00003,0.0003,0.003", NEVER, SHORT, "seed.value=0,1,2,3,4"),
    "cut off": on_each(SGD, INITS, "optimizer.lr=0.0001", NEVER, "trainer.max_epochs=8", "seed.value=0,1,2"),
    "divergence": on_each(SGD, INITS, "optimizer.lr=0.01,0.1,1e6,1e8", NEVER, SHORT, "seed.value=0,1"),
    "no effect": on_each(INITS, "optimizer.lr=0.001", "early_stop.patience=3,4", SHORT, "seed.value=0,1"),
    "few seeds": on_each("init=xavier,xavier_uniform", "optimizer.lr=0.001", NEVER, SHORT, "seed.value=0,1"),
    "no baseline": on_each(INITS, "optimizer.lr=0.003,0.01", NEVER, SHORT, "seed.value=0"),
    "patience": on_each(
        *("early_stop.metric=val/accuracy", "early_stop.patience=1,25", "optimizer.lr=0.0001"),
        *("trainer.max_epochs=60", "seed.value=0,1,2,3,4"),
    ),
    "coarse": [
        ["data=digits", model, "optimizer.lr=0.002,0.005,0.05,0.1", NEVER, SHORT, "seed.value=0,1,2,3,4"]
        for model in (
            *("model.hidden=[16]", "model.hidden=[24]", "model.hidden=[32]", "model.hidden=[32,32]"),
            "model.activation=tanh",
        )
    ],
}


def main(kinds: list[str]) -> None:
    """Prints for each kind what was found in each of its sweeps."""
    for kind in kinds or SWEEPS:
        found = [_kinds(words) for words in SWEEPS[kind]]
        hits = sum(kind in each for each in found)
        print(f"{kind}: {hits} of {len(found)}; {'; '.join(', '.join(each) for each in found)}", flush=True)


def _kinds(words: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(TRAIN), "-m", *QUICK, *words]
        subprocess.run(command, cwd=folder, capture_output=True, check=False)
        said = answer(load(Path(folder) / "outputs" / "main"), thorough=False)
        return [one.kind for one in critique(said)]


if __name__ == "__main__":
    main(sys.argv[1:])
