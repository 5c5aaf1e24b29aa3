"""What launch.py can do, one function each: (config, workdir) -> None.

A new mode is one function here and its line in MODES.
"""

from pathlib import Path

from ml_collections import ConfigDict

from ssl_jax.active import questions, rounds
from ssl_jax.cli import predict
from ssl_jax.errors import UserError
from ssl_jax.evaluate.protocol import Protocol
from ssl_jax.report.summary import probe_table, summary
from ssl_jax.train import many_seeds, probing, restored
from ssl_jax.train import run as one_run
from ssl_jax.workdir import results, settings
from ssl_jax.workdir.files import write_json


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains what the config says, or goes on where the workdir's run stopped."""
    result = run(config, workdir)
    if result is None:
        print("stopped, and saved; the same command goes on from here")
    elif "rounds" in result:
        print(rounds.summary(result))
    else:
        print(summary(result))


def run(config: ConfigDict, workdir: Path, devices: list | None = None) -> dict | None:
    """One run; or many seeds at once; or the rounds of a simulation.

    Returns:
      The contents of result.json, or None if a signal stopped it early.

    Raises:
      UserError: a mistake in the configuration, the data or the workdir.
    """
    if config.num_seeds > 1:
        return many_seeds.run(config, workdir, devices)
    if config.query.rounds:
        return rounds.simulate(config, workdir, devices)
    return one_run.run(config, workdir, devices)


def probe(config: ConfigDict, workdir: Path) -> None:
    """Judges what the run in `workdir` has learned so far, finished or running.

    By the config's first probe section, if it has one; of the phase that this starts
    from, or else of the first. Writes probe.json and figures/mode_probe_*.png beside
    the run's own.
    """
    one_run.check_names(config)
    trains = tuple(name for name in config.phases if "algorithm" in config[name])
    probes = [
        name
        for name, section in config.items()
        if isinstance(section, ConfigDict)
        and "start_from" in section
        and "algorithm" not in section
    ]
    protocol, name = Protocol(), next(iter(trains), "")
    if probes:
        protocol = probing.check(config, probes[0], trains)
        name = config[probes[0]].start_from
    folder = workdir / name
    if not name or not folder.is_dir():
        raise UserError(f"{workdir} has no phase {name!r} yet: train it first.")
    phase, data = restored.rebuild(config, name, workdir)
    if "test" not in data.eval_sets or data.graph is not None:
        raise UserError(
            f"a probe judges features of images on test images, and {config.data.name} "
            "has none."
        )
    probing.check_folds(protocol, len(data.split.labeled))
    prefix = workdir / "figures" / "mode_probe"
    entry = probing.probe(protocol, phase, data, folder, prefix)
    result = {
        "name": config.name,
        "seed": config.seed,
        "config": settings.plain(config),
        "device": results.device(phase.mesh),
        "versions": results.versions(),
        **entry,
    }
    write_json(workdir / "probe.json", result)
    print(f"{name} at step {entry['step']}, {entry['labels']:,} labels:")
    print(probe_table(entry["probe"]))


MODES = {
    "train": train,
    "probe": probe,
    "query": questions.ask,
    "predict": predict.write,
}
# What works on a run that is there takes its configuration from the workdir.
OF_A_RUN = ("probe", "query", "predict")
