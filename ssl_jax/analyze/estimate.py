"""How long a run would take on this machine, by steps that are compiled and timed."""

import contextlib
import math
import statistics
import time

import jax
from jax.sharding import Mesh

from ssl_jax.core import place
from ssl_jax.data.loading import Data
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.train import phases
from ssl_jax.train.parts import Probes, Run, Trains
from ssl_jax.train.program import compile_phase
from ssl_jax.workdir import results

_SECONDS = 5.0  # of steps that are timed, of each phase
_CALLS = 2, 50  # at least, at most, after one that warms up


def measured(run: Run, data: Data, mesh: Mesh) -> dict:
    """The time that each phase would take to its last step, and all of them together.

    A phase that may stop earlier takes less. Probes, figures, checkpoints and the start
    of the program are not in it.

    Raises:
      UserError: a phase contradicts the data.
    """
    found = {s.name: _of_phase(run, s, data, mesh) for s in run.trained.values()}
    # Many seeds at once, and rounds of questions, are about so many runs.
    times = run.num_seeds * max(run.query.rounds, 1)
    return {
        "seconds": times * sum(phase["seconds"] for phase in found.values()),
        "runs": times,
        "phases": found,
        "not_counted": [s.name for s in run.sections if isinstance(s, Probes)],
        "device": results.device(mesh),
    }


def _of_phase(run: Run, section: Trains, data: Data, mesh: Mesh) -> dict:
    phase = phases.build(run, section, data, mesh)
    with jax.set_mesh(mesh):
        state, sums, call, compiling = compile_phase(phase)
        arrays, size = phase.feed.arrays, section.steps_per_call
        items = phase.feed.items(0, size * (_CALLS[1] + 1))
        took = []
        with contextlib.ExitStack() as until_done:
            if hasattr(items, "close"):  # threads may read ahead for it
                until_done.callback(items.close)
            began = time.monotonic()
            for item in items:
                start = time.monotonic()
                state, sums = jax.block_until_ready(call(state, sums, arrays, item))
                took.append(time.monotonic() - start)
                if len(took) > _CALLS[0] and time.monotonic() - began > _SECONDS:
                    break
        a_step = statistics.median(took[1:]) / size
        evaluating, once = _evaluation(phase, state, data)
    evaluations = math.ceil(section.steps / section.eval_every)
    return {
        "algorithm": section.algorithm,
        "steps": section.steps,
        "compile_seconds": round(compiling + evaluating, 3),
        "seconds_per_step": round(a_step, 6),
        "images_per_second": round(phase.images_per_step / a_step, 1),
        "evaluations": evaluations,
        "seconds_per_evaluation": round(once, 6),
        "seconds": round(
            compiling + evaluating + section.steps * a_step + evaluations * once, 3
        ),
    }


def _evaluation(phase, state, data):
    """(seconds to compile one, seconds that one takes) of all that is held out, by a
    batch of each set; k-NN not counted."""
    evaluate = compile_evaluation(phase.algorithm, phase.rows, phase.key).sums
    compiling = once = 0.0
    for batches in data.eval_sets.values():
        batch = place(batches[0], phase.rows)
        first, second = _timed(evaluate, state, batch), _timed(evaluate, state, batch)
        compiling += max(first - second, 0)
        once += second * len(batches)
    return compiling, once


def _timed(evaluate, state, batch):
    start = time.monotonic()
    jax.block_until_ready(evaluate(state, [batch]))
    return time.monotonic() - start
