"""The only training loop: step, log, evaluate, stop, save."""

import contextlib
import time
from collections.abc import Callable
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Metrics, can, mean
from ssl_jax.data.loading import Data
from ssl_jax.evaluate import reported
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.train import pictures, probing, program, stopping
from ssl_jax.train.phases import Phase
from ssl_jax.workdir import handover
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.logs import Log, Progress, TensorBoard
from ssl_jax.workdir.workdir import Workdir


def train(
    phase: Phase,
    data: Data,
    workdir: Workdir,
    tensorboard: TensorBoard,
    interrupted: Callable[[], bool],
    quality: Metrics = MappingProxyType({}),
) -> dict | None:
    """Trains one phase from its newest checkpoint, or from the start, inside
    `jax.set_mesh`.

    Args:
      quality: of the labels that it starts with; logged at step 0.

    Returns:
      The phase's entry in result.json, or None when `interrupted()` ended it early.

    Raises:
      UserError: a loss or parameter that is not finite, or a damaged checkpoint.
    """
    section = phase.section
    initial = handover.handed_over(section.start_from, section.keep, workdir.path)
    state, sums, call, compile_seconds = program.compile_phase(phase, initial)
    no_sums, replicated = jax.device_get(sums), NamedSharding(phase.mesh, P())
    evaluate, counts_KK = _evaluation(phase, data), None

    with (
        Checkpoints(workdir.phase(phase.name).checkpoints, tidy=True) as checkpoints,
        contextlib.closing(workdir.journal) as journal,
        contextlib.ExitStack() as at_end,
    ):
        step = 0
        if checkpoints.steps:
            step, saved = checkpoints.newest({"state": state, "sums": sums})
            state, sums = saved["state"], saved["sums"]
        else:
            workdir.draw(phase.name, pictures.before(phase))
        rows = journal.resume(phase.name, step)
        progress = Progress(phase.name, step, section.steps)
        at_end.callback(progress.close)
        log = Log(rows, journal, tensorboard, progress, reported.warning)
        if quality and not rows:
            head = {"phase": phase.name, "step": 0, "seconds": 0.0}
            log.put(head, {"train": quality})
        seconds_before = rows[-1]["seconds"] if rows else 0.0
        first, began, evaluating = step, time.monotonic(), 0.0
        # Nothing may be left but the figures.
        over = step == section.steps or stopping.over(rows, section)

        for item in () if over else phase.feed.items(step, section.steps):
            state, sums = call(state, sums, phase.feed.arrays, item)
            step += section.steps_per_call
            progress.at(step)
            over = step == section.steps
            evaluates = over or step % section.eval_every == 0
            if evaluates or step % section.log_every == 0:
                scores = {}
                if evaluates:
                    scores, counts_KK, seconds = evaluate(state)
                    evaluating += seconds
                # Computed on the device, behind the steps under way: not read yet.
                rate = {}
                if section.rate:
                    rate["learning_rate"] = mean(jnp.asarray(section.rate(step - 1)))
                now = seconds_before + time.monotonic() - began
                head = {"phase": phase.name, "step": step, "seconds": now}
                log.put(head, {"train": rate | sums, **scores})
                sums = jax.device_put(no_sums, replicated)
            if evaluates and stopping.watches(section):
                log.flush()
                over = over or stopping.over(rows, section)
            stops = interrupted()
            if over or stops or step % section.checkpoint_every == 0:
                log.flush()  # the journal is never behind a checkpoint
                journal.sync()
                checkpoints.save(step, {"state": state, "sums": sums})
            if over or stops:
                break
        training = time.monotonic() - began - evaluating
    if not over:
        return None

    if (
        counts_KK is None
        and "test" in data.eval_sets
        and can(phase.algorithm, "predict")
    ):
        _, counts_KK, _ = evaluate(state)  # resumed when only figures were left to draw
    shown = pictures.after(phase, data, state, rows, jax.device_get(counts_KK))
    workdir.draw(phase.name, shown)
    images = (step - first) * phase.images_per_step
    return reported.entry(
        rows,
        algorithm=section.algorithm,
        stopped=stopping.stopped_by(rows, section),
        seconds=rows[-1]["seconds"],
        compile_seconds=compile_seconds,
        # None when nothing was left to train.
        images_per_second=images / training if images else None,
    )


def _evaluation(phase, data):
    """evaluate(state) -> (scores of each held-out set, counts_KK of the test set or
    None, seconds that it took)."""
    of_batches = compile_evaluation(phase.algorithm, phase.rows, phase.key)
    knn = probing.compile_knn(phase, data) if phase.section.knn else None

    def evaluate(state):
        jax.block_until_ready(state)
        began, scores, counts_KK = time.monotonic(), {}, {}
        for name, batches in data.eval_sets.items():
            scores[name], counts_KK[name] = of_batches(state, batches)
        if knn is not None:
            scores["test"]["knn_accuracy"] = knn(state)
        jax.block_until_ready(scores)
        return scores, counts_KK.get("test"), time.monotonic() - began

    return evaluate
