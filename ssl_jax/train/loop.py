"""The only training loop.

A run is a tuple of named phases (design, section 3). Each is trained by `train_phase`
and leaves checkpoints, rows in the journal, figures, and done.json when it is over.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Metrics, mean
from ssl_jax.data.loading import Data
from ssl_jax.evaluate import reported
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.report.figures import curves
from ssl_jax.report.figures import images as image_figures
from ssl_jax.train import probing
from ssl_jax.train.phases import Phase
from ssl_jax.train.pictures import example_views
from ssl_jax.train.program import compile_phase
from ssl_jax.train.stopping import stale as stale_by_rules
from ssl_jax.train.stopping import stopped_by
from ssl_jax.workdir import handover
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.journal import Journal
from ssl_jax.workdir.logs import Log, Progress, TensorBoard


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
    initial = handover.handed_over(config.start_from, config.keep, workdir)
    state, sums, call, compile_seconds = compile_phase(phase, initial)
    no_sums, replicated = jax.device_get(sums), NamedSharding(phase.mesh, P())
    evaluate = compile_evaluation(phase)
    knn = probing.compile_knn(phase, data) if config.knn else None
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
            image_figures.save_views(prefix, phase.title, views)
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
            return validated and stale_by_rules(
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
    curves.save_figures(
        prefix, phase.title, rows, jax.device_get(counts_KK), class_names
    )
    if hasattr(phase.algorithm, "reconstruct") and "test" in data.eval_sets:
        images = phase.algorithm.reconstruct(state, data.eval_sets["test"][0])
        image_figures.save_reconstructions(prefix, phase.title, images)
    images = (step - first) * phase.images_per_step
    accuracy = rows[-1].get("val/accuracy")
    val = {} if accuracy is None else {"accuracy": accuracy}
    return {
        "algorithm": config.algorithm.name,
        "steps": step,
        "stopped": stopped_by(
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
        "test": reported.reported(rows),
    }
