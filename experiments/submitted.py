"""A table's runs as tasks of a SLURM array, by submitit where that is installed:

python -m experiments.papers.byol_cifar10 --submitit=PARTITION --submitit_hours=12

on a login node, in the repository's root, with the environment active. Each run that is
not finished becomes a task with one GPU. One whose time is up, or which is preempted,
saves its checkpoint and is queued again, until its run is finished. What each says lies
in runs/<experiment>/submitit. Without submitit, papers/*.sbatch do the like.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ssl_jax.errors import UserError

_SAVES = 120  # seconds before its end at which a task is told to save
# SLURM sends submitit's own signal to every process of a task. By a shell, as JAX warns
# of a fork that runs Python.
_WITHOUT_USR2 = ("sh", "-c", "trap '' USR2; exec \"$@\"", "sh")


class Task:
    """A program in a process of its own, which saves at SIGTERM and can go on."""

    def __init__(self, command: Sequence[str]):
        self.command = list(command)

    def __call__(self) -> None:
        self.process = subprocess.Popen([*_WITHOUT_USR2, *self.command])
        if status := self.process.wait():
            raise RuntimeError(f"{self.command} ended with status {status}")

    def checkpoint(self):
        """Called by submitit as the task must end: what is queued in its place."""
        from submitit.helpers import DelayedSubmission

        self.process.terminate()
        self.process.wait()
        return DelayedSubmission(Task(self.command))


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_string("submitit", "", "a SLURM partition: train there", to)
    hours = "of a task, before it saves and is queued again"
    flags.DEFINE_float("submitit_hours", 24.0, hours, flag_values=to)


def queue(
    experiment: str, folder: Path, names: Sequence[str], given: flags.FlagValues
) -> None:
    """Queues the runs that `given` chooses.

    Args:
      folder: of the experiment's runs.
      names: of all that it chooses, in order; "": is finished.

    Raises:
      UserError: as `submit`; or they are to be a share of those chosen.
    """
    if given.task != "1/1":
        raise UserError(
            f"--task={given.task} and --submitit share out the runs twice: leave one "
            "of them out."
        )
    left = {name: f"{i}/{len(names)}" for i, name in enumerate(names, 1) if name}
    commands = [command(experiment, given, task) for task in left.values()]
    how = dict(partition=given.submitit, hours=given.submitit_hours)
    tasks = submit(folder / "submitit", folder.name, commands, **how)
    for name, task in zip(left, tasks, strict=True):
        print(f"{name}: job {task.job_id}")
    print(f"what they say is in {folder / 'submitit'}")


def command(experiment: str, given: flags.FlagValues, task: str) -> list[str]:
    """What trains one of the runs that `given` chooses, "i/n" of them."""
    kept = {
        "seeds": ",".join(given.seeds),
        "only": ",".join(given.only),
        "data_dir": given.data_dir,
        "results": given.results,
        "debug": str(given.debug),
        "task": task,
    }
    program = [sys.executable, "-m", f"experiments.papers.{experiment}"]
    return program + [f"--{name}={value}" for name, value in kept.items() if value]


def submit(
    folder: Path,
    name: str,
    commands: Sequence[Sequence[str]],
    *,
    partition: str,
    hours: float,
    cluster: str = "slurm",
) -> list:
    """Queues the commands as an array: submitit's jobs.

    Args:
      folder: of what they say.
      cluster: or "local": processes here, for tests.

    Raises:
      UserError: there is no submitit, or no SLURM.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "--submitit needs the package submitit (pip install submitit); or use "
            "experiments/papers/*.sbatch."
        ) from error
    try:
        # A run may need any number of tasks: as often as its time was up.
        executor = submitit.AutoExecutor(folder, cluster, slurm_max_num_timeout=1000)
    except RuntimeError as error:
        raise UserError(
            f"--submitit={partition}: there is no SLURM here ({error}); start this on "
            "a login node of a cluster."
        ) from error
    executor.update_parameters(
        name=name,
        timeout_min=int(hours * 60),
        gpus_per_node=1 if cluster == "slurm" else 0,
        cpus_per_task=4,
        mem_gb=16,
        slurm_partition=partition,
        slurm_signal_delay_s=_SAVES,
    )
    with executor.batch():
        return [executor.submit(Task(each)) for each in commands]
