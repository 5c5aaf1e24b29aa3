"""What launch.py can do, one function each: (config, workdir) -> None.

A new mode is one function here and its line in MODES.
"""

from pathlib import Path

from ml_collections import ConfigDict

from ssl_jax import loop, report, representation, workdirs
from ssl_jax.checkpoints import write_json
from ssl_jax.core import UserError
from ssl_jax.phases import build_phase, load_data, make_mesh


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains the config's phases, or goes on where the workdir's run stopped."""
    result = loop.run(config, workdir)
    if result is None:
        print("stopped, and saved; the same command goes on from here")
    else:
        print(report.summary(result))


def probe(config: ConfigDict, workdir: Path) -> None:
    """Judges what the run in `workdir` has learned so far, finished or running.

    By the config's first probe section, if it has one; of the phase that this starts
    from, or else of the first. Writes probe.json and figures/mode_probe_*.png beside
    the run's own.
    """
    loop.check_names(config)
    trained = tuple(name for name in config.phases if "algorithm" in config[name])
    probes = [
        name
        for name, section in config.items()
        if isinstance(section, ConfigDict)
        and "start_from" in section
        and "algorithm" not in section
    ]
    protocol, name = representation.Protocol(), next(iter(trained), "")
    if probes:
        protocol = representation.check(config, probes[0], trained)
        name = config[probes[0]].start_from
    folder = workdir / name
    if not name or not folder.is_dir():
        raise UserError(f"{workdir} has no phase {name!r} yet: train it first.")
    # Another network would not fit the checkpoint.
    workdirs.check(workdir, config, "model", f"{name}.algorithm")
    mesh = make_mesh()
    try:
        data = load_data(config, mesh)
        phase = build_phase(config, name, data, mesh)
    except AttributeError as error:
        raise UserError(
            f"the configuration in {workdir} was written by another version of ssl_jax "
            f"({error}): train it again with this one."
        ) from error
    representation.check_folds(protocol, len(data.split.labeled))
    prefix = workdir / "figures" / "mode_probe"
    entry = representation.probe(protocol, phase, data, folder, prefix)
    result = {
        "name": config.name,
        "seed": config.seed,
        "config": workdirs.plain(config),
        "device": workdirs.device(mesh),
        "versions": workdirs.versions(),
        **entry,
    }
    write_json(workdir / "probe.json", result)
    print(f"{name} at step {entry['step']}, {entry['labels']:,} labels:")
    print(report.probe_table(entry["probe"]))


MODES = {"train": train, "probe": probe}
# What works on a run that is there takes its configuration from the workdir.
OF_A_RUN = ("probe",)
