"""One run."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ssl_jax import algorithms
from ssl_jax.active import strategies
from ssl_jax.core import make_mesh
from ssl_jax.data import loading, sources
from ssl_jax.data.loading import Data
from ssl_jax.errors import UserError
from ssl_jax.report.figures import curves, drawing
from ssl_jax.train import probing, sections, self_training
from ssl_jax.train.loop import train_phase
from ssl_jax.train.phases import build_phase, check_phase
from ssl_jax.train.program import check_handovers
from ssl_jax.workdir import handover, results, workdirs
from ssl_jax.workdir.files import write_json
from ssl_jax.workdir.journal import Journal
from ssl_jax.workdir.logs import TensorBoard


def run(config: ConfigDict, workdir: Path, devices: list | None = None) -> dict | None:
    """Trains the phases of `config` in `workdir`, going on with what is there.

    Args:
      devices: the devices to train on; all by default.

    Returns:
      The contents of result.json, or None if a SIGTERM or Ctrl-C ended the run early
      (its checkpoint is saved, and the same call goes on from there).

    Raises:
      UserError: a mistake in the configuration, the data or the workdir; a workdir
        that did not exist is then not created.
    """
    mesh = make_mesh(devices)
    check(config, mesh)
    workdirs.check(workdir, config)
    own = workdirs.own_labels(workdir, config)
    finished = workdirs.finished(workdir, config)
    if finished and not sources.may_change(config.data.name):
        return finished
    on_graph = sections.on_graph(own)
    data = loading.load(own.data, mesh, seed=own.seed, as_graph=on_graph)
    workdirs.check_data(workdir, data.dataset)  # a folder's images change
    if finished:
        return finished
    check_held_out(config, data)
    for name in config.phases:
        if "algorithm" not in config[name]:
            protocol = probing.check(config, name, config.phases)
            probing.check_folds(protocol, len(data.split.labeled))
        elif config[name].labels_from:
            sections.check_split(config, name, data.split)
    phases = {
        name: build_phase(config, name, data, mesh)
        for name in config.phases
        if "algorithm" in config[name]
    }
    done = {}
    with (
        workdirs.opened(workdir, config, mesh, data.dataset) as resumed,
        contextlib.closing(TensorBoard(workdir, config.tensorboard)) as tensorboard,
        jax.set_mesh(mesh),
        stop_on_signal() as stopping,
    ):
        check_handovers(list(phases.values()))
        for name in config.phases:
            marker = workdir / name / "done.json"
            if not marker.exists():
                if stopping():
                    return None
                more, quality = {}, {}
                if name in phases:
                    phase = phases[name]
                    if teacher := phase.config.labels_from:
                        labels, more, quality = self_training.teach(
                            phase, phases[teacher], data, workdir
                        )
                        phase = build_phase(config, name, data, mesh, labels)
                    entry = train_phase(
                        phase, data, workdir, tensorboard, stopping, quality
                    )
                else:
                    judged = phases[config[name].start_from]
                    entry = probing.probe(
                        probing.check(config, name, config.phases),
                        judged,
                        data,
                        workdir / judged.name,
                        workdir / "figures" / name,
                        stopping,
                    )
                if entry is None:
                    return None
                marker.parent.mkdir(exist_ok=True)
                write_json(marker, entry | more)
            done[name] = json.loads(marker.read_text())
        _compare(config, workdir)
        result = results.result(config, mesh, done, resumed)
        write_json(workdir / "result.json", result)
    return result


def _compare(config, workdir):
    """Draws the labeled phases of a run over each other, where there are several."""
    rows_of = {}
    for row in Journal(workdir / "metrics.jsonl").rows():
        name = config[row["phase"]].algorithm.name
        if algorithms.draws_from(name) == "labeled":
            rows_of.setdefault(row["phase"], []).append(row)
    if len(rows_of) > 1:
        compared = curves.comparison(rows_of, config.name)
        drawing.save(compared, workdir / "figures" / "phases", "comparison")


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGTERM or Ctrl-C has come.

    Only the first is taken so; the next one acts as it always does.
    """
    received = []

    def handle(signum, frame):
        received.append(signum)
        signal.signal(signum, before[signum])

    before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# Set in XLA_FLAGS before JAX starts, it makes a GPU's results repeat bit for bit.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def check(config: ConfigDict, mesh: Mesh) -> None:
    """Finds what is wrong with a configuration before any data is read.

    Raises:
      UserError: something is.
    """
    check_names(config)
    for field, least in (("seed", 0), ("num_seeds", 1)):
        if config[field] < least:
            raise UserError(f"{field}={config[field]} must be at least {least}.")
    for i, name in enumerate(config.phases):
        start_from = config[name].start_from
        if "algorithm" not in config[name]:
            probing.check(config, name, config.phases[:i])
            continue
        if start_from not in ("scratch", *config.phases[:i]):
            handover.finished_phase(Path(start_from))
        check_phase(config, name, mesh)
        sections.check(config, name, config.phases[:i])
    strategies.check(config.query.strategy, config.query.size)
    if config.deterministic and jax.default_backend() == "gpu":
        if DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
            raise UserError(
                "deterministic=True needs XLA_FLAGS to hold "
                f"{DETERMINISTIC} before JAX starts."
            )


def check_held_out(config: ConfigDict, data: Data) -> None:
    """Raises UserError if a phase is judged by test images and there are none."""
    if "test" in data.eval_sets:
        return
    for name in config.phases:
        if "algorithm" not in config[name] or config[name].knn:
            raise UserError(
                f"the phase {name!r} is judged by test images, and "
                f"{config.data.name} has none: leave it out of phases, set knn=0, or "
                "add a folder test."
            )


def check_names(config: ConfigDict) -> None:
    """Raises UserError unless `config.phases` names sections, each once."""
    sections = [
        name
        for name, section in config.items()
        if isinstance(section, ConfigDict) and "start_from" in section
    ]
    if not config.phases:
        raise UserError(f"phases is empty; name some of: {', '.join(sections)}.")
    if unknown := [name for name in config.phases if name not in sections]:
        raise UserError(
            f"phases names {', '.join(map(repr, unknown))}, which this config does "
            f"not have; it has: {', '.join(sections)}."
        )
    if len(set(config.phases)) < len(config.phases):
        raise UserError(f"phases={config.phases} names a phase twice.")
