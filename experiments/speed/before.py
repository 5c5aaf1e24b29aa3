"""Seconds of a training step: here, and on an earlier commit.

    python -m experiments.speed.before --base=6ae31b6 [--data_dir=TFDS] [--rounds=3]
        [--run=digits:fixmatch] [--run=mnist:fixmatch] [--keep=cpu]

Makes a git worktree of the base in a temporary folder. Each config is trained by two
processes, launch.py of that checkout and of this one, so that each has what its own
start tells JAX; a process stands still at its first call of the compiled step. That one
is then repeated on the same batch when it is asked for: once to warm up, and in each
round as often as takes about `--seconds`, by one process after the other. A config is a
line of experiments/results/before.jsonl, named <--keep>_<config's name>, and a row of
docs/results.md. `--debug` is the configs with :debug, one round.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from experiments import command, jobs, readme
from experiments.checkouts import ROOT, worktree
from ssl_jax.errors import UserError

RUNS = ("cifar10:fixmatch", "digits:fixmatch", "mnist:fixmatch")
# launch.py, whose first call of the compiled step answers each number of calls that it
# reads with the seconds of a step.
ANSWERING = """
import json, os, runpy, sys, time
from ssl_jax.train import program

compile_phase = program.compile_phase

def answering(phase, *args):
    compiled = compile_phase(phase, *args)
    def call(state, sums, *batch):
        import jax
        from ssl_jax.workdir import results
        print(json.dumps({
            "device": results.device(phase.mesh),
            "versions": results.versions(),
            "git": results.git_state(),
            "steps_per_call": phase.section.steps_per_call,
        }), flush=True)
        for calls in map(int, sys.stdin):
            began = time.perf_counter()
            for _ in range(calls):
                state, sums = compiled.call(state, sums, *batch)
            jax.block_until_ready((state, sums))
            seconds = (time.perf_counter() - began) / calls
            print(json.dumps(seconds / phase.section.steps_per_call), flush=True)
        sys.exit(0)
    return compiled._replace(call=call)

program.compile_phase = answering
sys.argv[0] = "launch.py"
runpy.run_path("launch.py", run_name="__main__")
"""


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_string("base", None, "the commit to compare with", to, required=True)
    flags.DEFINE_multi_string("run", list(RUNS), "<config>:<words>, and again", to)
    flags.DEFINE_integer("rounds", 3, "measurements; the median counts", flag_values=to)
    flags.DEFINE_float("seconds", 5.0, "of a measurement, about", flag_values=to)
    flags.DEFINE_bool("debug", False, "the configs with :debug, one round", to)
    flags.DEFINE_string("data_dir", "", "as config.data.dir", to)
    flags.DEFINE_string("keep", "", "name to keep the results by: the device", to)
    flags.DEFINE_string("results", str(readme.RESULTS), "folder of the results", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    experiment = "before_debug" if given.debug else "before"
    verify = ["git", "-C", ROOT, "rev-parse", "--verify", f"{given.base}^{{commit}}"]
    if subprocess.run(verify, capture_output=True).returncode:
        raise UserError(
            f"--base={given.base} is no commit here; `git log --oneline` lists them."
        )
    with tempfile.TemporaryDirectory(prefix="before-") as folder:
        with worktree(given.base, Path(folder) / "base") as base:
            for name in given.run:
                measured = measure(name, base, given)
                kept = f"{given.keep}_{measured['name']}" if given.keep else ""
                jobs.keep(experiment, kept, measured, Path(given.results))


def measure(name: str, base: Path, given: flags.FlagValues) -> dict:
    """Seconds of a step of one config in the checkout `base` and in this one."""
    load_before = os.getloadavg()
    if given.debug:
        name += f"{',' if ':' in name else ':'}debug"
    config = jobs.load(name)
    flags_given = [f"--config={name}", "--config.tensorboard=False"]
    if given.data_dir and not given.debug and config.data.name != "digits":
        flags_given.append(f"--config.data.dir={given.data_dir}")
    with Answering(base, flags_given) as before, Answering(ROOT, flags_given) as now:
        both = {"before": before, "now": now}
        rounds = 1 if given.debug else given.rounds
        seconds, calls = in_turn(both, given.seconds, rounds)
        said = {which: each.said for which, each in both.items()}
    ratios = [b / n for b, n in zip(seconds["before"], seconds["now"], strict=True)]
    return {
        "name": config.name,
        "config": config.to_dict(),
        "median_seconds": {n: statistics.median(s) for n, s in seconds.items()},
        "times_as_fast": statistics.median(ratios),
        "seconds": seconds,
        "ratios": ratios,
        "calls": calls,
        "commits": {which: each["git"] for which, each in said.items()},
        "devices": {which: each["device"] for which, each in said.items()},
        "versions": said["now"]["versions"],
        "debug": given.debug,
        "cpus": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
    }


class Answering:
    """A process that trains in a checkout, as far as its first step, and then takes the
    step as often as it is asked to."""

    def __init__(self, checkout: Path, flags_given: list[str]):
        self.folder = tempfile.TemporaryDirectory()
        given = [*flags_given, f"--workdir={self.folder.name}/w"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", ANSWERING, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env={
                **os.environ,
                "PYTHONPATH": str(checkout),
                # Two processes share a GPU's memory.
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            },
        )

    def __enter__(self) -> "Answering":
        """When it stands at its first step; `said` is its device, versions, commit and
        how many steps a call has."""
        self.said = self._answer()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()

    def run(self, calls: int) -> float:
        """Seconds a step.

        Raises:
          RuntimeError: the process has ended; it has said why.
        """
        print(calls, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        for line in self.process.stdout:
            try:
                return json.loads(line)
            except json.JSONDecodeError:  # what launch.py says
                continue
        raise RuntimeError(f"{self.process.args[3]} ended with {self.process.wait()}")


def in_turn(
    both: dict[str, Answering], seconds: float, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of a step by name and round; and of each the calls of a measurement."""
    warm = {name: each.run(1) for name, each in both.items()}
    calls = {
        name: max(1, round(seconds / taken / both[name].said["steps_per_call"]))
        for name, taken in warm.items()
    }
    found = {name: [] for name in both}
    for _ in range(rounds):
        for name, each in both.items():
            found[name].append(each.run(calls[name]))
    return found, calls


if __name__ == "__main__":
    command.start("before", run, define_flags)
