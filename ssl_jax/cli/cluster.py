"""Where a process stands among those that it trains with: by flags, and for what they
leave out by what SLURM, Open MPI or Kubernetes say in its environment.

JAX would look by itself; but it would not say what is missing, gives each process one
GPU even where a host runs one process, and does not know Open MPI 5.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from ssl_jax.errors import UserError

_FLAGS = ("coordinator", "num_processes", "process_id")


class Place(NamedTuple):
    """One process among several."""

    coordinator: str  # host:port of process 0
    count: int
    index: int
    gpus: list[int] | None = None  # of those that it sees; None: all


def place(
    environment: Mapping[str, str],
    coordinator: str = "",
    count: int | None = None,
    index: int | None = None,
) -> Place | None:
    """None for a process that is alone.

    Raises:
      UserError: something is missing, or cannot be.
    """
    given = dict(zip(_FLAGS, (coordinator or None, count, index), strict=True))
    given = {flag: value for flag, value in given.items() if value is not None}
    if count == 1:
        return None
    told, gpus = {}, None
    for of_cluster in (_slurm, _open_mpi, _jobset):
        if found := of_cluster(environment):
            told, gpus = found
            break
    if not given and (not told or told.get("num_processes") == 1):
        return None
    return _checked(told | given, gpus)


def _checked(asked, gpus):
    if missing := [f"--{flag}" for flag in _FLAGS if flag not in asked]:
        known = " ".join(f"--{flag}={value}" for flag, value in asked.items())
        raise UserError(
            f"{known} needs {' and '.join(missing)} as well, as in "
            "--coordinator=10.0.0.1:1234 --num_processes=2 --process_id=0; or give "
            "--num_processes=1, to train alone."
        )
    found = Place(*(asked[flag] for flag in _FLAGS), gpus)
    mistakes = []
    if not re.fullmatch(r".+:\d+", found.coordinator):
        mistakes.append(
            f"--coordinator={found.coordinator} must be process 0's host and a port "
            "that is free there, as in 10.0.0.1:1234."
        )
    if found.count < 1:
        mistakes.append(f"--num_processes={found.count} must be at least 1.")
    elif not 0 <= found.index < found.count:
        mistakes.append(
            f"--process_id={found.index} must be from 0 to {found.count - 1}: one less "
            f"than --num_processes={found.count}."
        )
    if mistakes:
        raise UserError("\n".join(mistakes))
    return found


# Each: (what it says of the flags, which GPUs are the process's), or None where it does
# not run this process.


def _slurm(env):
    # Outside of srun, in the batch script itself, there is no step.
    names = ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")
    if not all(f"SLURM_{name}" in env for name in names):
        return None
    prefix, number = re.match(
        r"([^,\[]+)(?:\[(\d+))?", env["SLURM_STEP_NODELIST"]
    ).groups(default="")
    told = {
        # A port of the ephemeral ones, another for each job.
        "coordinator": f"{prefix}{number}:{61440 + int(env['SLURM_JOB_ID']) % 4096}",
        "num_processes": int(env.get("SLURM_STEP_NUM_TASKS", env["SLURM_NTASKS"])),
        "process_id": int(env["SLURM_PROCID"]),
    }
    tasks_here = re.match(r"\d+", env.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0]
    if "SLURM_GPUS_PER_TASK" in env:
        return told, None  # a task sees none of another's
    return told, _gpus(env, int(tasks_here), int(env["SLURM_LOCALID"]))


def _open_mpi(env):
    if "OMPI_COMM_WORLD_SIZE" not in env:
        return None
    told = {
        "num_processes": int(env["OMPI_COMM_WORLD_SIZE"]),
        "process_id": int(env["OMPI_COMM_WORLD_RANK"]),
    }
    # Where mpirun runs, which is process 0's host; version 5 does not say.
    uri = env.get("OMPI_MCA_orte_hnp_uri", "")
    if address := re.search(r"(\d+)\.\d+;tcp6?://\[?([^,\]]+?)[,:\]]", uri):
        job, host = address.groups()
        told["coordinator"] = f"{host}:{61440 + int(job) // 4096 % 4096}"
    here, place = (
        int(env.get(f"OMPI_COMM_WORLD_LOCAL_{name}", default))
        for name, default in (("SIZE", 1), ("RANK", 0))
    )
    return told, _gpus(env, here, place)


def _jobset(env):
    """Of a JobSet whose pods are told its name and that of their replicated job; every
    pod of an indexed Job has JOB_COMPLETION_INDEX."""
    if not {"JOBSET_NAME", "JOB_COMPLETION_INDEX"} <= env.keys():
        return None
    told = {"process_id": int(env["JOB_COMPLETION_INDEX"])}
    if "JAX_COORDINATOR_ADDRESS" in env:
        told["coordinator"] = env["JAX_COORDINATOR_ADDRESS"]
    elif "REPLICATED_JOB_NAME" in env:
        name, job = env["JOBSET_NAME"], env["REPLICATED_JOB_NAME"]
        told["coordinator"] = f"{name}-{job}-0-0.{name}:1234"
    return told, None


def _gpus(env, processes_here, place):
    """An equal share of those that all processes of a host see."""
    seen = [gpu for gpu in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if processes_here == 1 or len(seen) < processes_here:
        return None  # all; or each process sees its own alone
    each = len(seen) // processes_here
    return list(range(place * each, (place + 1) * each))
