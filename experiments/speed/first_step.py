"""How long launch.py takes to its first step, when nothing is compiled and when all is.

    python -m experiments.speed.first_step [--data_dir=TFDS] [--rounds=3] [--keep=cpu]

With --keep, a line of experiments/results/first_step.jsonl of that name.

Each start is a process of its own, which ends when its first step is done. Seconds are
from the start of the process, imports and reading the data included; CPU seconds are
user's and system's, of all threads. Before the first one measured, another has decoded
the images and brought what is imported into memory; then its compiled programs go.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import jax
from absl import flags

from experiments import command, jobs
from ssl_jax import core
from ssl_jax.workdir import results

ROOT = Path(__file__).parents[2]
CONFIGS = ("digits", "cifar10:fixmatch,small")
# launch.py, ended by its first step.
TO_FIRST_STEP = """
import json, os, runpy, sys, time
from ssl_jax.train import program

compile_phase = program.compile_phase

def ending(*args):
    compiled = compile_phase(*args)
    def call(*args):
        import jax
        jax.block_until_ready(compiled.call(*args))
        used = os.times()
        said = {"at": time.time(), "cpu_seconds": used.user + used.system}
        print(json.dumps(said | {"modules": list(sys.modules)}))
        sys.exit(0)
    return compiled._replace(call=call)

program.compile_phase = ending
sys.argv[0] = "launch.py"
runpy.run_path("launch.py", run_name="__main__")
"""


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_string("data_dir", "", "where tfds has CIFAR-10", to)
    flags.DEFINE_integer("rounds", 3, "second starts; their median", flag_values=to)
    flags.DEFINE_string("keep", "", "name to keep the result by: the device", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    jobs.keep("first_step", given.keep, measure(given.data_dir, given.rounds))


def measure(data_dir: str, rounds: int) -> dict:
    """Of each config: its first start, the second ones, and how many times as fast
    these are."""
    starts = {}
    for config in CONFIGS:
        given = [f"--config={config}", "--config.tensorboard=False"]
        if data_dir and config != "digits":
            given.append(f"--config.data.dir={data_dir}")
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "SSL_JAX_CACHE": folder}
            # JAX keeps programs where the user would have it.
            environment.pop("JAX_COMPILATION_CACHE_DIR", None)
            start(given, environment)
            shutil.rmtree(Path(folder) / "compiled")
            first, *second = (start(given, environment) for _ in range(1 + rounds))
        for one in (first, *second):
            del one["modules"]
        starts[config] = {
            "first": first,
            "second": {name: median(one[name] for one in second) for name in first},
            "rounds": second,
        }
        starts[config]["times"] = round(
            first["seconds"] / starts[config]["second"]["seconds"], 2
        )
    return {
        "starts": starts,
        "device": results.device(core.make_mesh(jax.devices()[:1])),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": results.versions(),
        "git": results.git_state(),
    }


def start(given: Sequence[str], environment: Mapping[str, str]) -> dict:
    """{"seconds", "cpu_seconds", "modules"} of launch.py with these flags, in a new
    workdir, when its first step is done."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", TO_FIRST_STEP, *given, f"--workdir={folder}/w"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            check=True,
        )
    said = json.loads(done.stdout.splitlines()[-1])
    return {
        "seconds": round(said["at"] - began, 2),
        "cpu_seconds": round(said["cpu_seconds"], 2),
        "modules": said["modules"],
    }


if __name__ == "__main__":
    command.start("first_step", run, define_flags)
