"""The only training loop: step, log, evaluate, stop, save."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Metrics, can, mean, place
from ssl_jax.data.loading import Data
from ssl_jax.evaluate import reported
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.train import pictures, probing, profiling, program, stopping
from ssl_jax.train.phases import Phase
from ssl_jax.workdir.checkpoints import Checkpoints
from ssl_jax.workdir.logs import Clock, Log, Moment, Progress, say
from ssl_jax.workdir.tensorboard import TensorBoard
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
      UserError: a loss, or a number to be saved, that is not finite; or a damaged
        checkpoint.
    """
    section, folder = phase.section, workdir.phase(phase.name)
    initial = program.initial_of(phase, workdir.path, says=True)
    state, sums, call, compile_seconds = program.compile_phase(phase, initial)
    no_sums, replicated = jax.device_get(sums), NamedSharding(phase.mesh, P())
    evaluation = compile_evaluation(phase.algorithm, phase.rows, phase.key)
    evaluate, counts_KK = _evaluation(phase, data, evaluation.sums), None
    evaluated = False  # in this launch

    with (
        Checkpoints(folder.checkpoints, tidy=True) as checkpoints,
        contextlib.closing(workdir.journal) as journal,
        contextlib.ExitStack() as at_end,
    ):
        call = at_end.enter_context(profiling.traced(call, phase, folder.profile))
        first, state, sums = _newest(checkpoints, state, sums)
        views_wait = not first or workdir.undrawn(phase.name)
        # A row at its step is of the end of a shorter run, where its sums go on.
        goes_on = first < section.steps and _counted(sums)
        rows = journal.resume(phase.name, first - goes_on)
        tensorboard.resume(journal)
        progress = Progress(phase.name, first, section.steps)
        at_end.callback(progress.close)
        classes = len(data.dataset.class_names)
        tested = "test" in data.eval_sets
        warn = functools.partial(reported.warning, classes=classes, tested=tested)
        _rate(section, 1)  # compiles it, which is no training
        clock, step = Clock(_seconds(checkpoints, first, rows)), first
        log = Log(rows, journal, tensorboard, progress, warn, clock)
        if quality and not rows:
            log.put(_head(phase, 0), {"train": quality}, Moment(0.0, 0.0))
        # Nothing may be left but the figures.
        over = step == section.steps or stopping.over(rows, section)
        if over and views_wait:
            show(workdir, tensorboard, phase.name, 0, pictures.before(phase))

        for item in () if over else phase.feed.items(step, section.steps):
            state, sums = call(state, sums, phase.feed.arrays, item)
            step += section.steps_per_call
            if views_wait:  # and not the first step for them
                jax.block_until_ready(state)
                with clock.stopped():
                    show(workdir, tensorboard, phase.name, 0, pictures.before(phase))
                views_wait = False
            progress.at(step)
            log.write_done()
            over = step == section.steps
            evaluates = over or step % section.eval_every == 0
            if evaluates or step % section.log_every == 0:
                scores, moment = {}, None
                if evaluates:
                    log.flush()  # the row before, or it waits for this step
                    jax.block_until_ready(state)
                    moment = clock.now()
                    if not evaluated:  # and not before the first step
                        with clock.stopped():
                            compile_seconds += _compiling(evaluation.sums, data, state)
                        evaluated = True
                    with clock.paused():
                        scores, counts_KK = evaluate(state)
                train = _rate(section, step) | sums
                log.put(_head(phase, step), {"train": train, **scores}, moment)
                # At an end between two log points they stay: it may be extended.
                if not (step % section.eval_every and step % section.log_every):
                    sums = place(no_sums, replicated)
            if evaluates and stopping.watches(section):
                log.flush()
                if not over and stopping.over(rows, section):
                    over = True
                    say(stopping.said(rows, section))
            stops = interrupted()
            if over or stops or step % section.checkpoint_every == 0:
                log.flush()  # the journal is never behind a checkpoint
                journal.sync()
                jax.block_until_ready(state)
                taken = clock.now().seconds
                checkpoints.save(step, {"state": state, "sums": sums}, taken)
            if over or stops:
                break
        images, ended = (step - first) * phase.images_per_step, clock.now()
    if not over:
        return None

    if can(phase.algorithm, "predict") and "test" in data.eval_sets:
        if counts_KK is None:  # resumed when only figures were left to draw
            _, counts_KK = evaluate(state)
        folder.write_said(*_said(evaluation.said, data, state))
    shown = pictures.after(phase, data, state, rows, jax.device_get(counts_KK))
    show(workdir, tensorboard, phase.name, step, shown)
    return reported.entry(
        rows,
        algorithm=section.algorithm,
        stopped=stopping.stopped_by(rows, section),
        seconds=ended.seconds,
        compile_seconds=compile_seconds,
        # None: nothing was left.
        images_per_second=images / ended.training if images else None,
    )


def show(
    workdir: Workdir,
    tensorboard: TensorBoard,
    of: str,
    step: int,
    figures: Mapping[str, Any],
) -> None:
    """Draws figures, by their kind, as `Workdir.draw`; in TensorBoard as well."""
    workdir.draw(of, figures)
    tensorboard.figures(step, workdir.drawn(of, figures))


def _newest(checkpoints, state, sums):
    """(step, state, sums) of the newest checkpoint; without one, 0 and as they are."""
    if not checkpoints.steps:
        return 0, state, sums
    step, saved = checkpoints.newest({"state": state, "sums": sums})
    return step, saved["state"], saved["sums"]


def _counted(sums):
    """Whether the metrics have counted a step."""
    return any(metric.count > 0 for metric in jax.device_get(sums).values())


def _seconds(checkpoints, first, rows):
    """Of the phase's earlier launches, to the checkpoint that it goes on from; where
    that does not say, to the row before it."""
    taken = checkpoints.seconds(first) if first else None
    if taken is None:
        return rows[-1]["seconds"] if rows else 0.0
    return taken


def _head(phase, step):
    """What every row of the journal begins with, before the time."""
    return {"phase": phase.name, "step": step}


def _rate(section, step):
    """Computed on the device, behind the steps under way: not read yet."""
    if section.rate is None:
        return {}
    return {"learning_rate": mean(jnp.asarray(section.rate(step - 1)))}


def _evaluation(phase, data, of_batches):
    """evaluate(state) -> (scores of each held-out set, counts_KK of the test set or
    None), both computed when it returns."""
    knn = probing.compile_knn(phase, data) if phase.section.knn else None

    def evaluate(state):
        scores, counts_KK = {}, {}
        for name, batches in data.eval_sets.items():
            scores[name], counts_KK[name] = of_batches(state, batches)
        if knn is not None:
            scores["test"]["knn_accuracy"] = knn(state)
        return jax.block_until_ready((scores, counts_KK.get("test")))

    return evaluate


def _compiling(of_batches, data, state):
    """Seconds in which an evaluation is compiled, but for its k-NN: by one batch of
    each held-out set."""
    began = time.monotonic()
    for batches in data.eval_sets.values():
        jax.block_until_ready(of_batches(state, [batches[0]]))
    return time.monotonic() - began


def _said(said, data, state):
    """({"val" and "test": what is said of each image there}, rows of test images that
    are worth a look, and those)."""
    of_sets = {name: said(state, batches) for name, batches in data.eval_sets.items()}
    if data.graph is not None:  # whose nodes are no images
        return of_sets, np.arange(0), np.zeros((0, 0, 0, 0), np.uint8)
    rows = reported.striking(*of_sets["test"])
    return of_sets, rows, data.dataset.test_images_MHWC[rows]
