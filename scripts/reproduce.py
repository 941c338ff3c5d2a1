"""Trains a run again from its record, and checks whether the result is the same to the bit.

  python scripts/reproduce.py RUN        RUN is the folder of a run that has ended

The training is that of RUN/config.yaml, in a folder of its own that is removed
at the end; RUN is only read. Compared are weights, best weights, all state of
optimizer, schedule and generators, metrics.jsonl, every record of the event
files and the results. Where they differ, the first step, tensor and tag is
named, and what has changed since in code, files, versions and hardware.

Exit codes: 0 identical, 1 not (the folder is kept then), 2 bad usage.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

from sweepwise import cli
from sweepwise.errors import UsageError
from sweepwise.provenance import changes
from sweepwise.store import record, status
from sweepwise.store.folders import DIFF
from sweepwise.store.status import ended
from sweepwise.tools import scripting


def main(arguments: list[str]) -> int:
    """Trains the run again and compares the two."""
    folder, _ = scripting.run_and_settings(arguments)
    request = cli.recorded(folder)
    before = record.read(folder)
    if not ended(before):
        raise UsageError([f"{folder}: must have ended, but is {status.current_status(folder)}"])

    from sweepwise.run import train
    from sweepwise.verify import crash_recovery
    from sweepwise.verify.compare import compare

    scratch = Path(tempfile.mkdtemp(prefix="sweepwise-reproduce-"))
    request = crash_recovery.in_folder(request, scratch)
    with (scratch / crash_recovery.OUTPUT).open("w") as output, contextlib.redirect_stdout(output):
        train(request, fused=status.is_fused(before))
    after = record.read(request.folder)
    differing = compare(folder, request.folder)
    print(f"run           {folder}: {before['status']}, {record.best(before, '')}")
    print(f"again         {after['seconds']:.1f} s, {record.best(after, '')}")
    if not differing:
        shutil.rmtree(scratch)
        print("identical to the bit")
        return 0
    for difference in differing:
        print(f"differs       {difference}")
    differs = changes.differences(before, after, folder, request.folder)
    changed = [*differs.code, *differs.inputs, *differs.versions, *differs.machine]
    if before.get("data_sha256") != after["data_sha256"]:
        changed.append("the data are not the same")
    changed += [f"{line}, while it was trained" for line in before.get("not_bit_exact", [])]
    for line in changed or ["nothing that the record names"]:
        print(f"changed       {line}")
    if differs.code and before["environment"].get("git_commit"):
        diff = f" and {path}" if (path := folder / DIFF).is_file() and path.stat().st_size else ""
        print(f"made by       commit {before['environment']['git_commit']}{diff}")
    print(f"kept          {request.folder}")
    return 1


if __name__ == "__main__":
    cli.script(main, __doc__)
