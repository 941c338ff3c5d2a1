"""Measures our speed against other loops and frameworks, and prints what we promise beside it.

    python benchmarks/speed.py w1                   steps per second, all contenders
    python benchmarks/speed.py w2                   ... w3
    python benchmarks/speed.py histograms w1        what histograms every 50 steps cost
    python benchmarks/speed.py safety w1            what checkpoints and heeding signals cost
    python benchmarks/speed.py startup              a one-step job against `import torch`, whole processes

One thread each, measured in turn (interleave.py). Timings are not tests: they never change the exit code.
"""

import argparse
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from interleave import (
    SCRATCH,
    Contender,
    Sample,
    Samples,
    Worker,
    command,
    interleave,
    one_thread,
    ratios,
    table,
)

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = {"w1": 100, "w2": 4, "w3": 25}
LONG = {"w1": 1200, "w2": 24, "w3": 250}  # epochs: ten seconds, one checkpoint
ROUNDS = 7
FASTEST = "fastest hand-written loop"

OURS = ("ours_scalars", "ours_histograms", "ours_silent")
HAND_WRITTEN = ("flat_kernel", "flat_adam", "plain_fused", "plain", "dataloader")
OTHERS = ("summary_writer", "summary_writer_histograms", "lightning_default", "lightning_bare", "ignite")
COMPILED = ("jax_scan", "jax_step")
TRAINING = (*OURS, *HAND_WRITTEN, *OTHERS, *COMPILED)
SAFETY = {"ours_scalars": "ours_unsafe"}
HISTOGRAMS = {"ours_histograms": "ours_scalars", "summary_writer_histograms": "summary_writer"}

PAIRS: dict[str, dict[str, str]] = {"histograms": HISTOGRAMS, "safety": SAFETY}


class Promise(NamedTuple):
    """A bound on the median ratio of `contender` to `against`."""

    measurement: str
    contender: str
    against: str
    least: float
    most: float
    words: str


ANY = float("inf")
PROMISES = (
    Promise("w1", "ours_scalars", FASTEST, 0.90, ANY, "scalars: >= 0.90 of the fastest hand-written loop"),
    Promise("w1", "ours_scalars", "lightning_default", 5, ANY, "scalars: >= 5 times Lightning's defaults"),
    Promise("w1", "ours_scalars", "ignite", 2, ANY, "scalars: >= 2 times Ignite"),
    Promise("w2", "ours_scalars", FASTEST, 0.95, ANY, "scalars: >= 0.95 of the fastest hand-written loop"),
    Promise("histograms w1", "ours_scalars", "ours_histograms", 0, 1.08, "histograms: <= 8 % more time"),
    Promise("histograms w2", "ours_scalars", "ours_histograms", 0, 1.04, "histograms: <= 4 % more time"),
    Promise("safety w1", "ours_unsafe", "ours_scalars", 0, 1.02, "safety: <= 2 % more time"),
    Promise("safety w2", "ours_unsafe", "ours_scalars", 0, 1.02, "safety: <= 2 % more time"),
    Promise("startup", "one_step_job", "import_torch", 0, 1.4, "one-step job: <= 1.4 times import torch"),
)


def measure(contender: str, workload_name: str, epochs: int) -> Sample:
    """One training by one contender, run inside its own process."""
    import torch

    torch.set_num_threads(1)
    from workload import build

    workload = build(workload_name)
    workload.history.clear()
    rate = _loop(contender)(workload, epochs)
    accuracy = f"accuracy {workload.history[-1][1]:.3f}" if workload.history else "accuracy not reported"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Sample(rate, f"{accuracy}, {peak} MB")


def _loop(contender: str) -> Callable:
    if contender in (*OURS, *SAFETY.values()):
        import ours

        return getattr(ours, contender.removeprefix("ours_"))
    if contender in COMPILED:
        import jax_user

        return getattr(jax_user, contender.removeprefix("jax_"))
    import reference

    return getattr(reference, contender)


def training_speed(
    workload: str, names: Sequence[str], rounds: int, epochs: int
) -> tuple[Samples, dict[str, str]]:
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(measure, name, workload, epochs)) for name in names}
        return interleave(workers, rounds)


def startup_commands() -> dict[str, Contender]:
    job = ["train.py", "trainer.max_steps=1", "fresh=true", f"output_dir={SCRATCH}"]
    return {
        "import_torch": command([sys.executable, "-c", "import torch"], ROOT),
        "one_step_job": command([sys.executable, *job], ROOT),
    }


def fastest(samples: Samples) -> str:
    """The hand-written loop with the greatest median, or FASTEST itself if none was measured."""
    medians = {name: median(s.value for s in samples[name]) for name in HAND_WRITTEN if name in samples}
    return max(medians, key=medians.__getitem__, default=FASTEST)


def verdicts(measurement: str, samples: Samples, names: Mapping[str, str]) -> str:
    """One line for each promise about this measurement: bound, measured ratio, pass or fail."""
    rows = []
    for promise in PROMISES:
        if promise.measurement != measurement:
            continue
        against = names.get(promise.against, promise.against)
        missing = [name for name in (promise.contender, against) if name not in samples]
        if missing:
            verdict = f"NOT MEASURED  ({', '.join(missing)})"
        else:
            rounds = ratios(samples, promise.contender, against)
            ratio = median(rounds)
            word = "PASS" if promise.least <= ratio <= promise.most else "FAIL"
            verdict = (
                f"{word}  {promise.contender} / {against} = {ratio:.3f} ({min(rounds):.3f}-{max(rounds):.3f})"
            )
        rows.append(f"{promise.words:50} {verdict}")
    return "\n".join(["Promises", *rows])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measurement", choices=[*EPOCHS, *PAIRS, "startup"])
    parser.add_argument("workload", nargs="?", choices=[*EPOCHS], help="for histograms and safety")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"after the warm-up (default {ROUNDS})")
    parser.add_argument("--contenders", help="comma-separated names; default: all of the measurement")
    parser.add_argument("--epochs", type=int, help=f"of one measurement (default {EPOCHS})")
    parser.add_argument("--cpu", type=int, help="pin everything to this processor (Linux)")
    options = parser.parse_args()
    if (options.measurement in PAIRS) != (options.workload is not None):
        names = ", ".join(EPOCHS)
        parser.error(f"{' and '.join(PAIRS)} need a workload ({names}), the other measurements take none")
    for option in ("rounds", "epochs"):
        value = getattr(options, option)
        if value is not None and value < 1:
            parser.error(f"--{option} must be at least 1, not {value}")
    special = {name: [*pairs.values(), *pairs] for name, pairs in PAIRS.items()}
    special["startup"] = list(startup_commands())
    known = special.get(options.measurement, list(TRAINING))
    options.contenders = options.contenders.split(",") if options.contenders else known
    unknown = sorted(set(options.contenders) - set(known))
    if unknown:
        parser.error(f"unknown contenders: {', '.join(unknown)}; choose from {', '.join(known)}")
    return options


def main() -> None:
    options = arguments()
    one_thread(options.cpu)
    if options.measurement == "startup":
        commands = startup_commands()
        samples, failures = interleave({name: commands[name] for name in options.contenders}, options.rounds)
        title, unit, digits, names = "startup", "seconds", 2, {}
        reference_of = dict.fromkeys(samples, "import_torch")
    else:
        workload = options.workload or options.measurement
        lengths = LONG if options.measurement == "safety" else EPOCHS
        epochs = lengths[workload] if options.epochs is None else options.epochs
        samples, failures = training_speed(workload, options.contenders, options.rounds, epochs)
        title = " ".join(filter(None, (options.measurement, options.workload)))
        unit, digits, names = "steps/s", 0, {FASTEST: fastest(samples)}
        reference_of = dict.fromkeys(samples, names[FASTEST])
        if pairs := PAIRS.get(options.measurement):
            reference_of = {name: pairs.get(name, name) for name in samples}
    print(f"\n{title}: {options.rounds} rounds, one thread\n")
    print(table(samples, reference_of, unit, digits))
    for name, reason in failures.items():
        print(f"{name}: no result: {reason}")
    print("\n" + verdicts(title, samples, names))


if __name__ == "__main__":
    main()
