"""Where and how a cluster trains the runs of a sweep: the keys of hydra.launcher."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from sweepwise.config.ranges import Range
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.sweep.cluster import flags

# Keys that submitit's executor for Slurm takes as they are.
SAME = (
    *(
        "signal_delay_s",
        "partition",
        "qos",
        "account",
        "constraint",
        "nodes",
        "cpus_per_task",
        "gpus_per_node",
    ),
    *("gres", "exclude", "nodelist", "exclusive", "dependency", "comment", "array_parallelism"),
)
SRUN_ARGS = ("--kill-on-bad-exit=1",)  # one process of a run that dies ends the others


@dataclass(frozen=True)
class ClusterSettings:
    """Keys are submitit's, which are sbatch's with units; null leaves a thing to the cluster's default.

    Args:
        cluster: 'slurm', or 'local': submitit's local executor, to try a submission without a cluster.
        timeout_min: time limit of a job, in minutes; a job that reaches it goes on in another one.
        signal_delay_s: seconds before the limit at which a job makes its checkpoint and is requeued.
        partition: name.
        qos: name.
        account: name.
        constraint: features that nodes must have.
        nodes: of a job, >= 1; more than one process trains a run by DistributedDataParallel.
        tasks_per_node: processes a node, >= 1: one a GPU.
        cpus_per_task: cores of a process.
        gpus_per_node: GPUs.
        gres: generic resources, such as 'gpu:a100:2'.
        mem_gb: memory a node, in GiB.
        exclude: nodes to avoid.
        nodelist: nodes to use.
        exclusive: whether no other job may be on the nodes.
        dependency: such as 'afterok:17'.
        comment: text.
        array_parallelism: jobs of a sweep that run at the same time.
        setup: lines of shell that are run before, such as 'module load cuda'.
        teardown: lines of shell that are run after.
        srun_args: arguments of srun, beside --kill-on-bad-exit=1.
        additional_parameters: any other flag of sbatch, by name; true: the flag alone; false: not given; the
            values of a list get commas between them.
        runs_per_job: runs that share a job, several at a time.
        max_parallel: processes of a job that train at a time; null: one a core or GPU.
        fuse: whether runs of a job that differ in numbers only are trained as one program.
        group_size: of those at most; null: as many as are fastest.
        wait: stay until all jobs have ended.
        poll_s: seconds between two questions to the cluster while waiting.
        required: keys that must be given before anything is submitted.
        snapshot: copy the code when submitting, so that later edits change nothing in the queue.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    timeout_min: Annotated[int, Range(1)] = 60
    signal_delay_s: Annotated[int, Range(1)] = 90
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    constraint: str | None = None
    nodes: Annotated[int, Range(1)] = 1
    tasks_per_node: Annotated[int, Range(1)] = 1
    cpus_per_task: Annotated[int, Range(1)] | None = None
    gpus_per_node: Annotated[int, Range(0)] | str | None = None
    gres: str | None = None
    mem_gb: Annotated[float, Range(0, open_low=True)] | None = None
    exclude: str | None = None
    nodelist: str | None = None
    exclusive: bool | str | None = None
    dependency: str | None = None
    comment: str | None = None
    array_parallelism: Annotated[int, Range(1)] = 256
    setup: Sequence[str] = ()
    teardown: Sequence[str] = ()
    srun_args: Sequence[str] = ()
    additional_parameters: dict | None = None
    runs_per_job: Annotated[int, Range(1)] = 1
    max_parallel: Annotated[int, Range(1)] | None = None
    fuse: bool = True
    group_size: Annotated[int, Range(1)] | None = None
    wait: bool = False
    poll_s: Annotated[float, Range(0.1)] = 10.0
    snapshot: bool = True
    required: Sequence[str] = ()

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise UsageError([f"hydra.launcher.{fault}" for fault in faults])

    def _faults(self) -> Iterator[str]:
        known = [field.name for field in fields(self)]
        for key in self.required:
            if key not in known:
                yield f"required: {key} is no key of it; {did_you_mean(key, known)}"
            elif getattr(self, key) is None:
                yield f"{key}: must be given"
        if self.nodes * self.tasks_per_node > 1 and self.runs_per_job > 1:
            yield (
                f"runs_per_job={self.runs_per_job}: must be 1 where a run has several processes "
                f"(nodes={self.nodes}, tasks_per_node={self.tasks_per_node})"
            )
        if self.signal_delay_s >= 60 * self.timeout_min:
            yield (
                f"signal_delay_s={self.signal_delay_s}: must be less than the time limit, else a job is "
                f"requeued as soon as it begins; timeout_min={self.timeout_min} is {60 * self.timeout_min} s"
            )
        if unread := unread_group_size(self.fuse, self.group_size):
            yield unread
        yield from flags.faults(self.additional_parameters or {})
        yield from flags.srun_faults(self.srun_args)
        yield from flags.setup_faults(self.setup)
        if self.cluster == "local" and self.nodes > 1:
            yield f"nodes={self.nodes}: must be 1 with cluster=local, which is this machine"
        if self.cluster == "local" and isinstance(self.gpus_per_node, str):
            yield (
                f"gpus_per_node={self.gpus_per_node}: must be a whole number in [0, inf) with cluster=local; "
                "kinds of GPUs are Slurm's"
            )

    @property
    def lines(self) -> list[str]:
        """Shell around a job. What is run after it is a trap, else its exit code would be the job's."""
        after = [f"trap {shlex.quote('; '.join(self.teardown))} EXIT"] if self.teardown else []
        return [*after, *self.setup]

    def slurm(self) -> dict[str, Any]:
        """What submitit's executor takes."""
        given = {key: getattr(self, key) for key in SAME if getattr(self, key) is not None}
        memory = {} if self.mem_gb is None else {"mem": f"{round(self.mem_gb * 1024)}M"}
        requeue = {"requeue": True}  # Slurm's own: after a node's failure
        return {
            **given,
            **memory,
            "time": self.timeout_min,
            "ntasks_per_node": self.tasks_per_node,
            "srun_args": [*SRUN_ARGS, *self.srun_args],
            "additional_parameters": flags.written(requeue | (self.additional_parameters or {})),
            "wckey": None,
        }

    def local(self) -> dict[str, Any]:
        """What submitit's local executor takes of it."""
        known = ("timeout_min", "signal_delay_s", "tasks_per_node", "nodes")
        gpus = {"gpus_per_node": self.gpus_per_node} if self.gpus_per_node else {}
        return {key: getattr(self, key) for key in known} | gpus


def unread_group_size(fuse: bool, group_size: int | None) -> str:
    """What is wrong with the size of a group where no runs are trained as one program; '' if nothing is."""
    if fuse or group_size is None:
        return ""
    return f"group_size={group_size}: has no effect with fuse=false; use hydra.launcher.group_size=null"
