"""What steps_per_call gains, and what deterministic ops cost.

    python -m experiments.speed.steps_per_call [--run=cifar10:fixmatch]
        [--dtype=bfloat16] [--calls=1,4,16,64] [--deterministic] [--results=DIR]

The compiled call with its feed, as the loop makes it, of one config with each number of
steps a call, in turn, round after round. --deterministic has to be set before JAX
starts, so that its price is another process's: the same command with it, whose line of
steps_per_call.jsonl is then held against the one without. Images are made up.
"""

import time
from pathlib import Path
from statistics import median

import jax
import numpy as np
from absl import flags

from experiments import command, jobs
from ssl_jax import core
from ssl_jax.cli import process
from ssl_jax.data import loading
from ssl_jax.data.dataset import of_arrays
from ssl_jax.report import formats
from ssl_jax.train import phases, sections
from ssl_jax.train.program import compile_phase
from ssl_jax.workdir import results

SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}  # of the images; else CIFAR-10's
ROWS = 8192


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_string("run", "cifar10:fixmatch", "<config>:<words>", to)
    flags.DEFINE_enum("dtype", "bfloat16", ["bfloat16", "float32"], "of networks", to)
    flags.DEFINE_list("calls", "1,4,16,64", "steps a call", to)
    flags.DEFINE_bool("deterministic", False, "ops that repeat bit for bit", to)
    flags.DEFINE_integer("rounds", 5, "measurements; the median counts", flag_values=to)
    flags.DEFINE_float("seconds", 2.0, "of a measurement", flag_values=to)
    flags.DEFINE_string("results", "experiments/results", "their folder", to)
    flags.DEFINE_bool("debug", False, "the config with :debug", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    calls = [int(count) for count in given.calls]
    measured = measure(given, calls)
    path = Path(given.results) / "steps_per_call.jsonl"
    name = f"{measured['name']}_{given.dtype}"
    results.add_to_table(path, name + "_deterministic" * given.deterministic, measured)
    print(table(results.read_table(path)), flush=True)


def measure(given: flags.FlagValues, calls: list[int]) -> dict:
    """Seconds a step in each round, by steps a call."""
    argument = given.run
    if given.debug:
        argument += f"{',' if ':' in argument else ':'}debug"
    config = jobs.load(argument)
    (name, *_) = config.phases
    config.model.dtype, config.deterministic = given.dtype, given.deterministic
    process.set_up(config)
    mesh, running = core.make_mesh(), {}
    shape = SHAPES.get(given.run.partition(":")[0], (32, 32, 3))
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (ROWS, *shape), np.uint8)
    dataset = of_arrays(images_NHWC, np.arange(ROWS) % 10, name="made up")
    data = None
    for count in calls:
        intervals = ("steps", "log_every", "eval_every", "checkpoint_every")
        config[name].update(dict.fromkeys(intervals, count), steps_per_call=count)
        wanted = sections.parse(config, mesh.size)
        data = data or loading.load(wanted.data, mesh, seed=0, dataset=dataset)
        phase, _ = phases.prepared(config, name, mesh, data)
        with jax.set_mesh(mesh):
            state, sums, call, compile_seconds = compile_phase(phase)
        running[count] = [phase, call, state, sums, 1, compile_seconds]
    seconds = {count: [] for count in calls}
    for _ in range(2 + given.rounds):  # the first compile what else there is, and warm
        for count, left in running.items():
            phase, call, state, sums, times, _ = left
            began = time.perf_counter()
            for item in phase.feed.items(0, times * count):
                state, sums = call(state, sums, phase.feed.arrays, item)
            jax.block_until_ready(state)
            taken = (time.perf_counter() - began) / times
            left[2:5] = state, sums, max(1, round(given.seconds / taken))
            seconds[count].append(taken / count)
    seconds = {str(count): each[2:] for count, each in seconds.items()}
    return {
        "name": config.name,
        "deterministic": given.deterministic,
        "seconds_per_step": seconds,
        "median": {count: median(each) for count, each in seconds.items()},
        "compile_seconds": {str(count): left[5] for count, left in running.items()},
        "config": config.to_dict(),
        "device": results.device(mesh),
        "versions": results.versions(),
        "git": results.git_state(),
    }


def table(found: results.Table) -> str:
    """Milliseconds a step, and how many times as fast as with one a call; of a
    deterministic one, how many times as slow as the same without."""
    lines = []
    for name, (one,) in found.items():
        plain = found.get(name.removesuffix("_deterministic"))
        for count, seconds in one["median"].items():
            gain = one["median"].get("1")
            price = ""
            if one["deterministic"] and plain and count in plain[0]["median"]:
                price = f"{seconds / plain[0]['median'][count]:.2f}"
            lines.append(
                [
                    *(name, count, f"{1000 * seconds:.2f}"),
                    f"{gain / seconds:.2f}" if gain else "",
                    price,
                ]
            )
    header = ["run", "steps a call", "ms a step", "times as fast as 1", "price"]
    return formats.markdown_table(header, lines)


if __name__ == "__main__":
    command.start("steps_per_call", run, define_flags)
