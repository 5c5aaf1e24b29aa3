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

    By the config's probe section, if it has one; of the phase that it starts from, or
    else of the first. Writes probe.json and figures/probe_*.png beside the run's own.
    """
    trained = tuple(name for name in config.phases if "algorithm" in config[name])
    sections = [name for name in config.phases if name not in trained]
    protocol, name = representation.Protocol(), trained[0]
    if sections:
        protocol = representation.check(config, sections[0], trained)
        name = config[sections[0]].start_from
    mesh = make_mesh()
    folder = workdir / name
    if not folder.is_dir():
        raise UserError(f"{workdir} has no phase {name!r} yet: train it first.")
    data = load_data(config, mesh)
    phase = build_phase(config, name, data, mesh)
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
