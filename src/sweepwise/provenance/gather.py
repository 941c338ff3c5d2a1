"""Everything that can change the result of a run, gathered once when the run starts or resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweepwise.provenance.environment import current_environment
from sweepwise.provenance.hashes import Hashes
from sweepwise.provenance.origin import diff
from sweepwise.provenance.sources import code, inputs
from sweepwise.store.request import Request


@dataclass(frozen=True)
class Provenance:
    """What produces a run.

    Attributes:
        code: the hash of each source file, see `sources.code`; the record has the hash of them all.
        inputs: size and hash of each file that the config names, see `sources.inputs`.
        environment: versions, hardware and git's commit, see `environment.current_environment`.
        diff: uncommitted changes of the code, for `git apply`.
    """

    code: Hashes
    inputs: Mapping[str, str]
    environment: Mapping[str, Any]
    diff: str

    def fields(self) -> dict[str, Any]:
        """The fields of `record.json` that `changes.differences` compares; the diff has a file of its own."""
        return {"code": self.code.digest, "inputs": self.inputs, "environment": self.environment}


def gather(request: Request, settings: Mapping[str, Any]) -> Provenance:
    """The provenance of a run in this process; imports torch.

    Args:
        request: the run.
        settings: what else can change the last bits of its results, such as whether it is trained in a group;
            part of the environment.
    """
    targets = request.targets
    return Provenance(
        code=code(targets),
        inputs=inputs(request.config),
        environment=current_environment(targets) | dict(settings),
        diff=diff(targets),
    )
