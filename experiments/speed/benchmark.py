"""How fast a config trains, and what of it is the step, the loop, the augmentation.

python -m experiments.speed.benchmark --config=configs/mnist.py [--config.x=y]
    [--devices=1,2,4] [--measured_steps=50] [--rounds=3] [--keep=NAME]
python -m experiments.speed.benchmark --config=configs/cifar10.py:small
    --against=cifar10:flexmatch,small --against=cifar10:cta,small ...

Prints a table and JSON; with --keep, also a line of experiments/results/benchmark.jsonl
of that name: "fixmatch_mnist_cpu" is README's.

Timings are taken in alternation, round by round, and the medians are shown: machines
are shared and noisy. The full loop is `train.run` in a temporary workdir, with its
feeding, logging and checkpoints but without evaluations; the bare step is the same
compiled call on one batch that already lies on the device. where.py takes that apart:
its arithmetic and memory against the rates of this machine, and what of a step are
augmentation, optimizer and averages, network and host.

With --against the bare steps of several configs are measured instead, in alternation,
each on the data of --config: what a method costs over another.
"""

import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import app, flags

import launch
from experiments import jobs
from experiments.speed import augment_speed, tables, where
from ssl_jax import core
from ssl_jax.errors import UserError
from ssl_jax.train import phases
from ssl_jax.train.program import at, compile_phase, first_item
from ssl_jax.train.run import run
from ssl_jax.workdir import results

DEVICES = flags.DEFINE_list("devices", "", "device counts, such as 1,2,4; default: all")
STEPS = flags.DEFINE_integer("measured_steps", 50, "steps a measurement")
ROUNDS = flags.DEFINE_integer("rounds", 3, "measurements; the median counts")
KEEP = flags.DEFINE_string("keep", "", "name to keep the result by")
AGAINST = flags.DEFINE_multi_string(
    "against", [], "configs and their words, whose bare steps are compared"
)
PILLOW = flags.DEFINE_bool("pillow", True, "also RandAugment against Pillow, 32x32")


def main(config):
    jax.config.update("jax_enable_compilation_cache", False)  # compiling is measured
    counts = [int(count) for count in DEVICES.value]
    if counts:  # a CPU's; otherwise as many as launch.py has made
        jax.config.update("jax_num_cpu_devices", max(counts))
    try:
        if AGAINST.value:
            results = compare(config, AGAINST.value, STEPS.value, ROUNDS.value)
            jobs.keep("benchmark", KEEP.value, results)
            return
        counts = counts or [jax.device_count()]
        results = measure(config, counts, steps=STEPS.value, rounds=ROUNDS.value)
    except UserError as error:
        launch.fail(error)
    if PILLOW.value:
        results["randaugment_against_pillow"] = augment_speed.measure()
    print(tables.of_benchmark(results))
    jobs.keep("benchmark", KEEP.value, results)


def measure(
    config, counts: list[int], *, steps: int, rounds: int, shrink: int = 1
) -> dict:
    """Measures the config's first phase, once for each number of devices in `counts`.

    Args:
      steps: a measurement's.
      rounds: measurements, of which the median is given.
      shrink: of what the machine's own rates are measured by (`where.ceilings`).
    """
    if max(counts) > jax.device_count():
        raise UserError(
            f"devices={counts}, but there are only {jax.device_count()} devices here."
        )
    name = config.phases[0]
    config.phases, config.tensorboard = (name,), False
    steps -= steps % config[name].steps_per_call
    config[name].update(steps=steps, eval_every=steps)
    for interval in ("log_every", "checkpoint_every"):
        config[name][interval] = min(config[name][interval], steps)
    runs = []
    for count in counts:
        mesh = core.make_mesh(jax.devices()[:count])
        phase, _ = phases.prepared(config, name, mesh)
        runs.append(_on_devices(config, phase, rounds, shrink))
        gain = runs[-1]["steps_per_second"] / runs[0]["steps_per_second"]
        runs[-1]["scaling_efficiency"] = gain / (count / counts[0])
    return {
        "config": config.to_dict(),
        "device": results.device(core.make_mesh()),
        "versions": results.versions(),
        "git": results.git_state(),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "load_average": os.getloadavg(),
        "runs": runs,
    }


def compare(config, against: list[str], steps: int, rounds: int) -> dict:
    """Seconds of a bare step of `config` and of each in `against`, by rounds, and the
    ratios to `config`'s: in a round the configs take turns, `steps` at a time."""
    configs = {config.name: config}
    for argument in against:
        try:
            other = jobs.load(argument)
        except UserError as error:
            raise UserError(f"--against={argument}: {error}") from error
        if other.name in configs:
            raise UserError(f"--against={argument}: {other.name} is there already.")
        other.data = config.data
        configs[other.name] = other
    programs, data, mesh = {}, None, core.make_mesh()
    for name, other in configs.items():
        phase, data = phases.prepared(other, other.phases[0], mesh, data)
        with jax.set_mesh(mesh):
            state, sums, call, _ = compile_phase(phase)
        item = first_item(phase)
        programs[name] = [call, state, sums, phase.feed.arrays, item]
    config.data.dir = ""  # this machine's
    seconds = {name: [] for name in programs}
    for _ in range(1 + rounds):  # the first warms up
        for name, running in programs.items():
            call, state, sums, arrays, item = running
            began = time.perf_counter()
            for _ in range(steps):
                state, sums = call(state, sums, arrays, item)
            jax.block_until_ready(state)
            seconds[name].append((time.perf_counter() - began) / steps)
            running[1:3] = state, sums
    seconds = {name: values[1:] for name, values in seconds.items()}
    base = seconds[config.name]
    ratios = {
        name: [a / b for a, b in zip(values, base, strict=True)]
        for name, values in seconds.items()
    }
    return {
        "configs": {name: c.to_dict() for name, c in configs.items()},
        "device": results.device(mesh),
        "versions": results.versions(),
        "git": results.git_state(),
        "load_average": os.getloadavg(),
        "seconds_per_step": seconds,
        "ratios": ratios,
        "median_ratio": {n: statistics.median(v) for n, v in ratios.items()},
    }


def _on_devices(config, phase, rounds, shrink):
    with jax.set_mesh(phase.mesh):
        program = compile_phase(phase)
        strong, images = _strong_view(phase)
    steps, per_call = phase.section.steps, phase.section.steps_per_call
    item, arrays = first_item(phase), phase.feed.arrays
    done = where.work(phase, program)
    bare = where.Piece(
        lambda state: program.call(*state, arrays, item), (program.state, program.sums)
    )
    _, bare = bare.seconds(1)
    peak_memory = _peak_memory(phase.mesh)  # before anything else lies there
    best, best_work = where.ceilings(phase.mesh, config.model.dtype, shrink)
    timed = {"bare": bare, **where.pieces(phase, bare.state[0]), **best}
    times = dict.fromkeys(timed, steps) | {"bare": steps // per_call}
    platform = phase.mesh.devices.flat[0].platform
    times |= dict.fromkeys(best, where.TIMES.get(platform, where.GPU_TIMES))
    seconds = {name: [] for name in (*timed, "full", "strong")}
    for _ in range(1 + rounds):  # the first warms up
        for name, piece in timed.items():
            taken, timed[name] = piece.seconds(times[name])
            seconds[name].append(taken / per_call if name == "bare" else taken)

        began = time.perf_counter()
        for i in range(steps):
            views = strong(jax.random.key(i), images)
        jax.block_until_ready(views)
        seconds["strong"].append((time.perf_counter() - began) / steps)

        with tempfile.TemporaryDirectory() as folder:
            devices = list(phase.mesh.devices)
            result = run(config, Path(folder) / "run", devices)
        images_per_second = result["phases"][phase.name]["images_per_second"]
        seconds["full"].append(phase.images_per_step / images_per_second)
    seconds = {name: values[1:] for name, values in seconds.items()}
    strong = seconds.pop("strong")
    rates = {
        "full": [1 / taken for taken in seconds["full"]],
        "bare": [1 / taken for taken in seconds["bare"]],
        "augmented": [len(images) / taken for taken in strong],
    }
    ratios = [f / b for f, b in zip(rates["full"], rates["bare"], strict=True)]
    median = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "devices": phase.mesh.size,
        "steps_per_second": median["full"],
        "bare_steps_per_second": median["bare"],
        "loop_to_bare": statistics.median(ratios),
        "images_per_second": median["full"] * phase.images_per_step,
        "augmented_images_per_second": median["augmented"],
        "compile_seconds": program.compile_seconds,
        "where": where.shares(seconds, done, best_work),
        "peak_memory_bytes": peak_memory,
        "rounds": rates,
    }


def _strong_view(phase):
    """The compiled strong view, and the images of a step that it is for."""
    batch = phase.feed.batch(phase.feed.arrays, at(first_item(phase), 0))
    images = batch.get("unlabeled_image", batch["image"])
    key = jax.random.key(0)
    return jax.jit(phase.section.views.strong).lower(key, images).compile(), images


def _peak_memory(mesh):
    """Of the fullest device; on a CPU, of the whole process so far."""
    stats = [device.memory_stats() for device in mesh.devices]
    if all(stats):
        return max(stat["peak_bytes_in_use"] for stat in stats)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    app.run(main, flags_parser=launch.parse)
