"""The only training loop.

A run is a tuple of named phases (design, section 3). Each is trained by `train_phase`
and leaves checkpoints, rows in the journal, figures, and done.json when it is over.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from ssl_jax import (
    algorithms,
    evals,
    figures,
    representation,
    run_data,
    self_training,
    strategies,
    workdirs,
)
from ssl_jax.checkpoints import Checkpoints, Journal, write_json
from ssl_jax.core import Metrics, UserError, mean
from ssl_jax.evaluation import compile_evaluation, example_views
from ssl_jax.logs import Log, Progress, TensorBoard
from ssl_jax.phases import (
    Phase,
    build_phase,
    check_handovers,
    check_phase,
    compile_phase,
    make_mesh,
)
from ssl_jax.run_data import Data

# Set in XLA_FLAGS before JAX starts, it makes a GPU's results repeat bit for bit.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


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
    if finished and config.data.name != "folder":
        return finished
    data = run_data.load(own, mesh)
    workdirs.check_data(workdir, data.dataset)  # a folder's images change
    if finished:
        return finished
    check_held_out(config, data)
    for name in config.phases:
        if "algorithm" not in config[name]:
            protocol = representation.check(config, name, config.phases)
            representation.check_folds(protocol, len(data.split.labeled))
        elif config[name].labels_from:
            self_training.check_split(config, name, data.split)
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
                    entry = representation.probe(
                        representation.check(config, name, config.phases),
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
        result = workdirs.result(config, mesh, done, resumed)
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
        compared = figures.comparison(rows_of, config.name)
        figures.save(compared, workdir / "figures" / "phases", "comparison")


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
            representation.check(config, name, config.phases[:i])
            continue
        if start_from not in ("scratch", *config.phases[:i]):
            workdirs.finished_phase(Path(start_from))
        check_phase(config, name, mesh)
        self_training.check(config, name, config.phases[:i])
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


def train_phase(
    phase: Phase,
    data: Data,
    workdir: Path,
    tensorboard: TensorBoard,
    stopping: Callable[[], bool],
    quality: Metrics = MappingProxyType({}),
) -> dict | None:
    """Trains one phase from its newest checkpoint, or from the start.

    Args:
      quality: of the labels that it starts with; logged at step 0.

    Returns:
      The phase's entry in result.json, or None when `stopping()` ended it early.

    Raises:
      UserError: a loss or parameter that is not finite, or a damaged checkpoint.
    """
    config = phase.config
    initial = workdirs.handed_over(config.start_from, config.keep, workdir)
    state, sums, call, compile_seconds = compile_phase(phase, initial)
    no_sums, replicated = jax.device_get(sums), NamedSharding(phase.mesh, P())
    evaluate = compile_evaluation(phase)
    knn = representation.compile_knn(phase, data) if config.knn else None
    counts_KK = None  # of the last evaluation of the last of its sets
    step, evaluating = 0, 0.0  # the latter: seconds
    prefix = workdir / "figures" / phase.name  # and what each figure shows

    with (
        Checkpoints(workdir / phase.name / "checkpoints", tidy=True) as checkpoints,
        contextlib.closing(Journal(workdir / "metrics.jsonl")) as journal,
        contextlib.ExitStack() as at_end,
    ):
        if checkpoints.steps:
            step = checkpoints.steps[-1]
            restored = checkpoints.restore(step, {"state": state, "sums": sums})
            state, sums = restored["state"], restored["sums"]
        elif views := example_views(phase):
            figures.save_views(prefix, phase.title, views)
        rows = journal.resume(phase.name, step)
        seconds_before = rows[-1]["seconds"] if rows else 0.0
        progress = Progress(phase.name, step, config.steps)
        at_end.callback(progress.close)
        log = Log(rows, journal, tensorboard, progress)
        if quality and not rows:
            head = {"phase": phase.name, "step": 0, "seconds": 0.0}
            log.put(head, {"train": quality})
        first, began = step, time.monotonic()

        def stale():
            validated = [row for row in rows if "val/accuracy" in row]
            return validated and evals.stale(
                np.array([row["val/accuracy"] for row in validated]),
                np.array([row["val/loss"] for row in validated]),
                len(validated),
                patience=config.patience,
                loss_window=config.loss_window,
            )

        watches = config.patience or config.loss_window

        for item in () if watches and stale() else phase.feed.items(step, config.steps):
            state, sums = call(state, sums, phase.feed.arrays, item)
            step += config.steps_per_call
            progress.at(step)
            last = step == config.steps
            evaluates = last or step % config.eval_every == 0
            if evaluates or step % config.log_every == 0:
                scores = {}
                if evaluates:
                    jax.block_until_ready(state)
                    paused = time.monotonic()
                    for name, batches in data.eval_sets.items():  # test is the last
                        scores[name], counts_KK = evaluate(state, batches)
                    if knn is not None:
                        scores["test"]["knn_accuracy"] = knn(state)
                    jax.block_until_ready(scores)
                    evaluating += time.monotonic() - paused
                head = {
                    "phase": phase.name,
                    "step": step,
                    "seconds": seconds_before + time.monotonic() - began,
                }
                # Computed on the device, behind the steps under way: not read yet.
                rate = {}
                if phase.rate:
                    rate = {"learning_rate": mean(jnp.asarray(phase.rate(step - 1)))}
                log.put(head, {"train": rate | sums, **scores})
                sums = jax.device_put(no_sums, replicated)
            if evaluates and watches:
                log.flush()
                last = last or stale()
            interrupted = stopping()
            if last or interrupted or step % config.checkpoint_every == 0:
                log.flush()  # the journal is never behind a checkpoint
                journal.sync()
                checkpoints.save(step, {"state": state, "sums": sums})
            if last:
                break
            if interrupted:
                return None
        training = time.monotonic() - began - evaluating

    if counts_KK is None and "test" in data.eval_sets:
        # Resumed when only the figures were left to draw.
        _, counts_KK = evaluate(state, data.eval_sets["test"])
    if "test" not in data.eval_sets:
        counts_KK = None
    class_names = data.dataset.class_names
    figures.save_figures(
        prefix, phase.title, rows, jax.device_get(counts_KK), class_names
    )
    if hasattr(phase.algorithm, "reconstruct") and "test" in data.eval_sets:
        images = phase.algorithm.reconstruct(state, data.eval_sets["test"][0])
        figures.save_reconstructions(prefix, phase.title, images)
    images = (step - first) * phase.images_per_step
    accuracy = rows[-1].get("val/accuracy")
    val = {} if accuracy is None else {"accuracy": accuracy}
    return {
        "algorithm": config.algorithm.name,
        "steps": step,
        "stopped": evals.stopped_by(
            rows,
            config.steps,
            patience=config.patience,
            loss_window=config.loss_window,
        ),
        "seconds": rows[-1]["seconds"],
        "compile_seconds": compile_seconds,
        # None when nothing was left to train.
        "images_per_second": images / training if images else None,
        "val": val,
        "test": evals.reported(rows),
    }


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
