"""What many seeds at once cost: config.num_seeds against one seed.

    python -m experiments.speed.seeds_at_once [--run=digits:fixmatch] [--seeds=10]
        [--steps=1000] [--dtype=bfloat16] [--data_dir=DIR] [--results=DIR]

Both by what launch.py does with num_seeds, and without what it compiles. `gain` is how
many times as long the seeds would have taken one after the other. A line of
seeds_at_once.jsonl, named after the run.
"""

import tempfile
from pathlib import Path

from absl import flags

from configs import base
from experiments import command, jobs
from ssl_jax.cli import process
from ssl_jax.report import formats
from ssl_jax.train import many_seeds
from ssl_jax.train.run import run as train
from ssl_jax.workdir import results, settings


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_string("run", "digits:fixmatch", "<config>:<words>", to)
    flags.DEFINE_string("model", "", "another network", to)
    flags.DEFINE_integer("seeds", 10, "trained at once", flag_values=to)
    flags.DEFINE_integer("steps", 0, "of each; 0: the config's", flag_values=to)
    flags.DEFINE_string("dtype", "", "of the network; the config's by default", to)
    flags.DEFINE_string("data_dir", "", "as config.data.dir", to)
    flags.DEFINE_string("results", "experiments/results", "their folder", to)


def run(given: flags.FlagValues) -> None:
    """The program with its flags parsed."""
    measured = measure(given)
    path = Path(given.results) / "seeds_at_once.jsonl"
    results.add_to_table(path, f"{measured['name']}_{given.seeds}", measured)
    print(table(results.read_table(path)), flush=True)


def measure(given: flags.FlagValues) -> dict:
    """Seconds of one seed and of all, and what they reach."""
    config = jobs.load(given.run)
    if given.model:
        base.refill(config, "model", given.model)
    (name,) = config.phases
    config.tensorboard, config.data.dir = False, given.data_dir
    config.model.dtype = given.dtype or config.model.dtype
    process.set_up(config)
    steps = given.steps or config[name].steps
    config[name].update(steps=steps, checkpoint_every=steps)
    config[name].eval_every = min(config[name].eval_every, steps)
    config[name].log_every = config[name].eval_every
    with tempfile.TemporaryDirectory() as folder:
        alone = train(config, Path(folder) / "one")
        config.num_seeds = given.seeds
        together = many_seeds.run(config, Path(folder) / "many")
    config.data.dir = ""
    entries = {"one": alone["phases"][name], "all": together["phases"][name]}
    seconds = {which: entry["seconds"] for which, entry in entries.items()}
    return {
        "name": config.name,
        "seeds": given.seeds,
        "seconds": seconds,
        "compile_seconds": {n: e["compile_seconds"] for n, e in entries.items()},
        "gain": given.seeds * seconds["one"] / seconds["all"],
        "test": together["test"],
        "config": settings.plain(config.to_dict()),
        **{field: together[field] for field in ("device", "versions", "git")},
    }


def table(found: results.Table) -> str:
    """A line a run."""
    lines = [
        [
            *(name, f"{one['seeds']}"),
            *(f"{one['seconds'][which]:.1f}" for which in ("one", "all")),
            *(f"{one['compile_seconds'][which]:.1f}" for which in ("one", "all")),
            f"{one['gain']:.1f}",
            f"{100 * (1 - one['test']['accuracy']):.2f} ± "
            f"{100 * one['test']['accuracy_std']:.2f}",
        ]
        for name, (one,) in found.items()
    ]
    header = ["run", "seeds", "seconds of one", "of all", "compiling one", "all"]
    return formats.markdown_table([*header, "times as fast", "error, %"], lines)


if __name__ == "__main__":
    command.start("seeds_at_once", run, define_flags)
