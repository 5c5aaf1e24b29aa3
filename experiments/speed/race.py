"""Error by time: as many steps of a config as some minutes allow.

    python -m experiments.speed.race --run=cifar10:fixmatch --labels=4000 --minutes=9
        [--of_minutes=25] [--packed=DIR | --data_dir=DIR] [--results=DIR]
        [--field=train.algorithm.weak_gradient=false]

Each run is one of launch.py's, in runs/race/<config>_<labels>. How many steps it has is
measured before: so many that they and the evaluations take --of_minutes, so that the
learning rate has come down by then. It stops and saves after --minutes, and the same
command goes on from there: on a machine that is lent for ten minutes at a time, a race
of 25 is three calls. Several runs (--run and --labels may have more than one) share the
minutes equally. A method without labels races by the accuracy of its k-NN.

After each run its line of race.jsonl is written: the error at each evaluation, and when
that was, without compiling. README's settings are changed in what a short run needs:
the rate falls to 0 by `cosine`, and averages forget their start.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from experiments.gpu import packed
from experiments.speed import start_tables
from ssl_jax import core
from ssl_jax.cli import process
from ssl_jax.data import loading
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.train import phases, sections
from ssl_jax.train.program import compile_phase
from ssl_jax.train.run import run as train
from ssl_jax.workdir import results, settings
from ssl_jax.workdir.workdir import Workdir

RUNS = Path("runs/race")
SPENT = 0.85  # of the minutes, on steps: the rest is compiling, evaluating, saving
PACED = ("steps", "log_every", "eval_every", "checkpoint_every")
EVALUATIONS = 20  # of a run


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("run", ["cifar10:fixmatch"], "<config>:<words>", to)
    flags.DEFINE_list("labels", "4000", "in all; 0: every one", to)
    flags.DEFINE_float("minutes", 9.0, "of this call, over all runs", flag_values=to)
    flags.DEFINE_float(
        "of_minutes", 0.0, "of a whole run; 0: its share", flag_values=to
    )
    flags.DEFINE_multi_string("field", [], "<field>=<value> of the configs, JSON", to)
    flags.DEFINE_integer("seed", 0, "of each run", flag_values=to)
    flags.DEFINE_integer("steps_per_call", 16, "steps in a call", flag_values=to)
    flags.DEFINE_enum("dtype", "bfloat16", ["bfloat16", "float32"], "of networks", to)
    flags.DEFINE_string("packed", "", "folder with packed CIFAR-10 (gpu/packed.py)", to)
    flags.DEFINE_string("data_dir", "", "as config.data.dir", to)
    flags.DEFINE_string("results", "experiments/results", "folder of race.jsonl", to)
    flags.DEFINE_bool("debug", False, "the configs with :debug, on digits", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    began, path = time.monotonic(), Path(given.results) / "race.jsonl"
    chosen = [(name, int(labels)) for name in given.run for labels in given.labels]
    dataset = packed.read("cifar10", Path(given.packed)) if given.packed else None
    if dataset is not None and given.debug:
        dataset = part(dataset, 2048)
    for i, (name, labels) in enumerate(chosen):
        left = 60 * given.minutes - (time.monotonic() - began)
        seconds = left / (len(chosen) - i)
        raced = race(name, labels, seconds, dataset, given)
        results.add_to_table(path, f"{raced['name']}_{labels}", raced)
        print(start_tables.race(results.read_table(path)), flush=True)


def race(
    name: str,
    labels: int,
    seconds: float,
    dataset: Dataset | None,
    given: flags.FlagValues,
) -> dict:
    """Trains one run for `seconds`; what its journal says then.

    Raises:
      UserError: a mistake in the configuration or the data.
    """
    ends = time.monotonic() + seconds
    config = configured(name, labels, given)
    process.set_up(config)
    (phase,) = config.phases
    workdir = Workdir(RUNS / f"{config.name}_{labels}_seed{given.seed}")
    if (begun := workdir.config) is not None:  # it goes on with the steps it has
        as_paced(config[phase], begun[phase])
        rate = None
    else:
        rate = steps_per_second(config, dataset)
        whole = 60 * given.of_minutes or ends - time.monotonic()
        evaluations = 2 if given.debug else EVALUATIONS
        paced(config[phase], rate * whole * SPENT, evaluations)
    result = until(ends, lambda: train(config, workdir.path, dataset=dataset))
    rows = list(workdir.journal.rows())
    config.data.dir = ""  # this machine's
    return {
        "name": config.name,
        "seed": given.seed,
        "labels": labels,
        "over": result is not None,
        "steps": config[phase].steps,
        "trained": workdir.phase(phase).trained,  # a save may be behind the last row
        "steps_per_second_measured": rate,
        "curve": curve(rows),
        "debug": given.debug,
        "config": settings.plain(config.to_dict()),
        "device": results.device(core.make_mesh()),
        "versions": results.versions(),
        "git": results.git_state(),
    }


def configured(name: str, labels: int, given: flags.FlagValues) -> ConfigDict:
    """The config of a short run of its first phase."""
    debug = f"{',' if ':' in name else ':'}debug" if given.debug else ""
    config = jobs.load(name + debug, fields(given.field))
    config.phases, config.tensorboard = (config.phases[0],), False
    config.seed, config.model.dtype = given.seed, given.dtype
    config.data.dir = given.data_dir
    phase = config[config.phases[0]]
    phase.steps_per_call = given.steps_per_call
    phase.optimizer.schedule = "cosine"
    for section, field in (
        (phase.algorithm, "ema_warmup"),
        (config.model, "bn_warmup"),
    ):
        if field in section:
            section[field] = True
    if not given.debug:
        config.data.num_labels = labels
    return config


def fields(given: list[str]) -> dict[str, object]:
    """Dotted field -> value, of "<field>=<value>" each.

    Raises:
      UserError: it is not written so.
    """
    found = {}
    for text in given:
        field, _, value = text.partition("=")
        try:
            found[field] = json.loads(value)
        except ValueError as error:
            raise UserError(
                f"--field={text}: {value!r} is no JSON; write <field>=<value>, such as "
                "train.algorithm.weak_gradient=false."
            ) from error
    return found


def steps_per_second(config: ConfigDict, dataset: Dataset | None) -> float:
    """Of the compiled call with its feed, without evaluations."""
    mesh = core.make_mesh()
    wanted = sections.parse(config, mesh.size)
    data = loading.load(wanted.data, mesh, seed=wanted.seed, dataset=dataset)
    phase, _ = phases.prepared(config, config.phases[0], mesh, data)
    per_call = phase.section.steps_per_call
    with jax.set_mesh(mesh):
        state, sums, call, _ = compile_phase(phase)
    taken, calls = [], 1
    for _ in range(3):  # the first warms up
        began = time.perf_counter()
        for item in phase.feed.items(0, calls * per_call):
            state, sums = call(state, sums, phase.feed.arrays, item)
        jax.block_until_ready(state)
        taken.append((time.perf_counter() - began) / (calls * per_call))
        calls = min(max(1, round(3 / (taken[-1] * per_call))), 1000)  # 3 seconds
    return 1 / taken[-1]


def part(dataset: Dataset, rows: int) -> Dataset:
    """The first rows of the pool, and of the test set."""
    return dataset._replace(
        images_NHWC=dataset.images_NHWC[:rows],
        labels_N=dataset.labels_N[:rows],
        test_images_MHWC=dataset.test_images_MHWC[:rows],
        test_labels_M=dataset.test_labels_M[:rows],
    )


def paced(phase: ConfigDict, steps: float, evaluations: int) -> None:
    """Gives a phase about so many steps, in whole evaluations."""
    unit = phase.steps_per_call
    every = max(round(steps / evaluations / unit), 1) * unit
    phase.update(dict.fromkeys(PACED, every))
    phase.steps = every * max(round(steps / every), 1)
    phase.optimizer.warmup_steps = min(phase.optimizer.warmup_steps, phase.steps // 20)


def as_paced(phase: ConfigDict, before: Mapping) -> None:
    """Gives a phase what `paced` gave it before."""
    phase.update({field: before[field] for field in PACED})
    phase.optimizer.warmup_steps = before["optimizer"]["warmup_steps"]


def until(ends: float, training) -> dict | None:
    """What `training` gives, or None where it was stopped at the time `ends`, of
    time.monotonic: as by a signal, after which it saves."""
    stop = threading.Timer(
        max(ends - time.monotonic(), 0.0), os.kill, (os.getpid(), signal.SIGTERM)
    )
    stop.start()
    try:
        return training()
    except KeyboardInterrupt:  # it came before the first step
        return None
    finally:
        stop.cancel()


def curve(rows: list[dict]) -> list[tuple[float, int, float]]:
    """(seconds, step, error on the test set) of each evaluation."""
    found = []
    for row in rows:
        right = row.get("test/knn_accuracy", row.get("test/accuracy"))
        if right is not None:
            found.append((round(row["seconds"], 2), row["step"], round(1 - right, 4)))
    return found


if __name__ == "__main__":
    command.start("race", run, define_flags)
