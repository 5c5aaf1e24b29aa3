"""A trace of some steps of a phase: what the host and each device did, and when.

`config.profile` steps of each launch, after its first calls, in which the host still
catches up with the devices. XProf, TensorBoard or Perfetto open it (docs/running.md). A
trace costs time, and moves no number.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from ssl_jax.train.phases import Phase
from ssl_jax.workdir import logs

WARM_UP = 2  # calls before the trace


@contextlib.contextmanager
def traced(call: Callable, phase: Phase, folder: Path) -> Iterator[Callable]:
    """Yields the phase's compiled call, as it is, or with a trace of `phase.profile`
    steps, rounded up to whole calls, which it writes into `folder` once they are done;
    where the block ends before, of those that there were."""
    if not phase.profile or jax.process_index():  # process 0 writes
        yield call
        return
    per_call = phase.section.steps_per_call
    ending = WARM_UP + -(-phase.profile // per_call)
    calls, results, under_way = 0, None, contextlib.ExitStack()

    def one(*args):
        nonlocal calls, results
        if calls == WARM_UP:
            jax.block_until_ready(results)
            under_way.enter_context(_trace(folder))
        with jax.profiler.StepTraceAnnotation(phase.name, step_num=calls * per_call):
            results = call(*args)
        calls += 1
        if calls == ending:
            jax.block_until_ready(results)
            under_way.close()
        return results

    with under_way:
        yield one
        jax.block_until_ready(results)
    steps = (min(calls, ending) - WARM_UP) * per_call
    if steps > 0:
        logs.say(f"{phase.name}: a trace of {steps} steps is in {folder}")
    else:
        logs.say(f"{phase.name}: no trace: it had no call after the first {WARM_UP}")


@contextlib.contextmanager
def _trace(folder):
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every call in Python: slow, and most of the file
    jax.profiler.start_trace(
        folder, create_perfetto_trace=True, profiler_options=options
    )
    try:
        yield
    finally:
        jax.profiler.stop_trace()
