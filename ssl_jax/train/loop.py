"""The only training loop: step, log, evaluate, stop, save."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Metrics, mean, place
from ssl_jax.data.loading import Data
from ssl_jax.evaluate import reported
from ssl_jax.train import pictures, profiling, program, stopping
from ssl_jax.train.evaluations import Evaluations
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
    draw = functools.partial(show, workdir, tensorboard, phase.name)
    initial = program.initial_of(phase, workdir.path, says=True)
    state, sums, call, compile_seconds = program.compile_phase(phase, initial)
    no_sums, replicated = jax.device_get(sums), NamedSharding(phase.mesh, P())
    evaluations = Evaluations(phase, data)

    with (
        Checkpoints(folder.checkpoints, tidy=True) as checkpoints,
        contextlib.closing(workdir.journal) as journal,
        contextlib.ExitStack() as at_end,
    ):
        call = at_end.enter_context(profiling.traced(call, phase, folder.profile))
        first, state, sums, rows, seconds = _newest(
            phase, checkpoints, journal, state, sums
        )
        tensorboard.resume(journal)
        progress = Progress(phase.name, first, section.steps)
        at_end.callback(progress.close)
        warn = functools.partial(
            reported.warning,
            classes=len(data.dataset.class_names),
            tested="test" in data.eval_sets,
        )
        _rate(section, 1)  # compiles it, which is no training
        clock, step = Clock(seconds), first
        log = Log(rows, journal, tensorboard, progress, warn, clock)
        if quality and not rows:
            log.put(_head(phase, 0), {"train": quality}, Moment(0.0, 0.0))
        # Nothing may be left but the figures.
        over = step == section.steps or stopping.over(rows, section)
        views_wait = not first or workdir.undrawn(phase.name)
        if over and views_wait:
            draw(0, pictures.before(phase))

        for item in () if over else phase.feed.items(step, section.steps):
            state, sums = call(state, sums, phase.feed.arrays, item)
            step += section.steps_per_call
            if views_wait:  # and not the first step for them
                jax.block_until_ready(state)
                with clock.stopped():
                    draw(0, pictures.before(phase))
                views_wait = False
            progress.at(step)
            log.write_done()
            over = step == section.steps
            evaluates = over or step % section.eval_every == 0
            if evaluates or step % section.log_every == 0:
                log.flush()  # the row before, or it waits for this step
                scores, done = evaluations.at(state, clock) if evaluates else ({}, None)
                train = _rate(section, step) | sums
                log.put(_head(phase, step), {"train": train, **scores}, done)
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

    counts_KK = evaluations.finish(state, folder)
    draw(step, pictures.after(phase, data, state, rows, counts_KK))
    return reported.entry(
        rows,
        algorithm=section.algorithm,
        stopped=stopping.stopped_by(rows, section),
        seconds=ended.seconds,
        compile_seconds=compile_seconds + evaluations.compile_seconds,
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


def _newest(phase, checkpoints, journal, state, sums):
    """Where the phase goes on: (step, state and sums of its newest checkpoint, or 0 and
    as they are; the rows of its journal up to there; seconds of its earlier launches).
    """
    if not checkpoints.steps:
        return 0, state, sums, journal.resume(phase.name, 0), 0.0
    step, saved = checkpoints.newest({"state": state, "sums": sums})
    counted = any(metric.count > 0 for metric in jax.device_get(saved["sums"]).values())
    # A row at its step is of the end of a shorter run, where its sums go on.
    goes_on = step < phase.section.steps and counted
    rows = journal.resume(phase.name, step - goes_on)
    seconds = checkpoints.seconds(step)
    if seconds is None:  # it does not say: of the row before it
        seconds = rows[-1]["seconds"] if rows else 0.0
    return step, saved["state"], saved["sums"], rows, seconds


def _head(phase, step):
    """What every row of the journal begins with, before the time."""
    return {"phase": phase.name, "step": step}


def _rate(section, step):
    """Computed on the device, behind the steps under way: not read yet."""
    if section.rate is None:
        return {}
    return {"learning_rate": mean(jnp.asarray(section.rate(step - 1)))}
