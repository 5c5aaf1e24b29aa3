"""What launch.py can do, one function each: (config, path of the workdir) -> None.

A new mode is one function here and its line in MODES.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jax.active import questions, rounds
from ssl_jax.analyze import analysis
from ssl_jax.cli import embed, export, predict
from ssl_jax.core import processes
from ssl_jax.errors import UserError
from ssl_jax.evaluate.protocol import Protocol
from ssl_jax.report import formats
from ssl_jax.report.page import ablation as page_of_ablation
from ssl_jax.report.page import written
from ssl_jax.report.summary import probe_table, summary
from ssl_jax.train import ablation, many_seeds, probing, restored, sections
from ssl_jax.train import run as runs
from ssl_jax.train.parts import Probes
from ssl_jax.tuning import tune as tuning
from ssl_jax.workdir import results, settings
from ssl_jax.workdir.workdir import Workdir

_STOPPED = "stopped, and saved; the same command goes on from here"


def train(config: Mapping[str, Any], path: Path) -> None:
    """Trains what the config says, or goes on where the workdir's run stopped."""
    result = run(config, path)
    if not processes.is_first():  # which may not even look for `path`
        return
    if result is None:
        print(_STOPPED)
        return
    print(rounds.summary(result) if "rounds" in result else summary(result))
    workdir = Workdir(path)
    workdir.page.write(lambda: written.of_workdirs([path]))
    if workdir.figures.exists():
        print(f"figures in {workdir.figures}")
    if workdir.page.path.exists():
        print(f"all on a page: {workdir.page.path}")


def run(
    config: Mapping[str, Any], path: Path, devices: list | None = None
) -> dict | None:
    """One run; or many seeds at once; or the rounds of a simulation.

    Returns:
      The contents of result.json, or None if a signal stopped it early.

    Raises:
      UserError: a mistake in the configuration, the data or the workdir.
    """
    if config["num_seeds"] > 1:
        return many_seeds.run(config, path, devices)
    if config["query"]["rounds"]:
        return rounds.simulate(config, path, devices)
    return runs.run(config, path, devices)


def tune(config: Mapping[str, Any], path: Path) -> None:
    """Looks for settings of the config's method on its labeled images, within
    `config.tune`; policy.json in `path` has what it found."""
    found = tuning.tune(config, path)
    if found is None:
        print(_STOPPED)
        return
    print(tuning.summary(found, path))


def probe(config: Mapping[str, Any], path: Path) -> None:
    """Judges what the run in the workdir `path` has learned so far, finished or
    running.

    By the config's first probe section, if it has one; of the phase that this starts
    from, or else of the first. Writes probe.json and figures/mode_probe_*.png beside
    the run's own.
    """
    wanted, workdir = sections.parse(config, to_train=False), Workdir(path)
    probe = sections.probe_of(wanted) or Probes(
        name="probe", start_from=next(iter(wanted.trained), ""), protocol=Protocol()
    )
    protocol, name = probe.protocol, probe.start_from
    if not name or not workdir.phase(name).path.is_dir():
        raise UserError(f"{path} has no phase {name!r} yet: train it first.")
    phase, data, _ = restored.rebuild(wanted, wanted.trained[name], workdir)
    if "test" not in data.eval_sets or data.graph is not None:
        raise UserError(
            f"a probe judges features of images on test images, and {wanted.data.name} "
            "has none."
        )
    probing.check_folds(protocol, probe.name, len(data.split.labeled))
    entry = probing.judge(protocol, phase, data, workdir, "mode_probe")
    workdir.write_probe(
        {
            "name": wanted.name,
            "seed": wanted.seed,
            "config": settings.plain(wanted.config),
            "device": results.device(phase.mesh),
            "versions": results.versions(),
            **entry,
        }
    )
    print(f"{name} at step {entry['step']}, {entry['labels']:,} labels:")
    print(probe_table(entry["probe"]))
    if protocol.map_images:
        print(f"figures in {workdir.figures}")


def ablate(config: Mapping[str, Any], path: Path) -> None:
    """Trains the run in the workdir `path` with and without each of its parts, or goes
    on with that, and writes what each adds on its page."""
    found = ablation.ablate(config, path)
    if found is None:
        print(_STOPPED)
        return
    print(formats.markdown_table(*page_of_ablation.table(found)))
    workdir = Workdir(path)
    workdir.page.write(lambda: written.of_workdirs([path]), anew=True)
    print(f"all on a page: {workdir.page.path}")


MODES = {
    "train": train,
    "ablate": ablate,
    "tune": tune,
    "probe": probe,
    "query": questions.ask,
    "predict": predict.write,
    "embed": embed.write,
    "export": export.write,
    "analyze": analysis.write,
}


def check_together(mode: str, config: Mapping[str, Any]) -> None:
    """Raises UserError where what is asked for is done by one process alone."""
    alone = [f"--mode={mode}"] if mode != "train" else []
    if config["num_seeds"] > 1:
        alone.append(f"config.num_seeds={config['num_seeds']}")
    if config["query"]["rounds"]:
        alone.append(f"config.query.rounds={config['query']['rounds']}")
    if alone:
        raise UserError(
            f"{' and '.join(alone)} runs in one process: start it once, or with "
            "--num_processes=1."
        )


def workdir(mode: str, config: Mapping[str, Any]) -> str:
    """The --workdir of whoever gives none: a search's is not that of its run."""
    search = "-tune" if mode == "tune" else ""
    return f"runs/{config['name']}-seed{config['seed']}{search}"


# What works on a run that is there takes its configuration from the workdir.
OF_A_RUN = ("probe", "query", "predict", "embed", "export", "ablate")
