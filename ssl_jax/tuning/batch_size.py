"""The batch size: the largest that fits into memory and still raises images/s."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ssl_jax.data import placement
from ssl_jax.tuning.bench import Bench
from ssl_jax.tuning.budget import BATCH_SIZE, Budget
from ssl_jax.workdir import logs

GAIN = 1.1  # that twice the images a step have to be faster by, in images/s
FEWEST = 8  # images a step
_OF_MEMORY = 0.5  # of what is free on the host, where the host computes
_SECONDS = 2.0  # of steps that are timed


class Measured(NamedTuple):
    """What a batch size came to."""

    images_per_second: float
    compile_seconds: float


def sizes(own: int, most: int, devices: int) -> tuple[list[int], list[int]]:
    """(those above `own`, those below), each twice or half of the one before, that the
    devices divide."""
    above, below = [], []
    while (size := 2 * (above[-1] if above else own)) <= most:
        above.append(size)
    half = own
    while half % (2 * devices) == 0 and half // 2 >= FEWEST:
        half //= 2
        below.append(half)
    return above, below


def chosen(
    own: int,
    above: list[int],
    below: list[int],
    measure: Callable[[int], Measured | str],
) -> tuple[int, dict[int, float], str]:
    """(the size, images/s of those that were measured, why no other was).

    Args:
      measure: of a size; or why it cannot be.
    """
    first = measure(own)
    if isinstance(first, str):
        return own, {}, first
    seen, best = {own: first.images_per_second}, own
    for size in above:
        found = measure(size)
        if isinstance(found, str):
            return best, seen, found
        seen[size] = found.images_per_second
        if seen[size] < GAIN * seen[best]:
            break
        best = size
    if best != own:
        return best, seen, "no larger one is faster"
    for size in below:
        found = measure(size)
        if isinstance(found, str):
            return best, seen, found
        seen[size] = found.images_per_second
        if seen[best] >= GAIN * seen[size]:
            break
        best = size
    return best, seen, f"twice the images are not {GAIN - 1:.0%} faster, half as slow"


def measured(
    bench: Bench, values: Mapping, images: int, budget: Budget, compile_seconds: float
) -> Measured | str:
    """Trains for some seconds with these settings.

    Args:
      images: a step.
      compile_seconds: what another program took; 0: it is compiled.
    """
    if not budget.allows(compile_seconds + _SECONDS, BATCH_SIZE):
        for_this = f"the {BATCH_SIZE:.0%} of the time that are for this"
        if not compile_seconds:
            return f"{for_this} are over"
        return f"compiling another takes {compile_seconds:.0f} s, beyond {for_this}"
    try:
        compiled, _ = bench.compiled(values)
        free = _OF_MEMORY * placement.free_memory()
        if jax.default_backend() == "cpu" and compiled.temporary > free:
            return f"a step of more takes {compiled.temporary / 1e9:.1f} GB"
        rate = images * steps_per_second(bench, values)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return "more do not fit into the memory"
    return Measured(rate, compiled.seconds)


def steps_per_second(bench: Bench, values: Mapping, seconds: float = _SECONDS) -> float:
    """Of training with these settings, by steps that take about so many seconds."""
    _, section = bench.changed(values)
    few = 3 * section.steps_per_call

    def timed(steps):
        (judged,) = bench.train(values, (steps,), rates=np.zeros(steps))
        return steps / judged.seconds

    timed(few)  # the first calls are slower
    more = max(int(timed(few) * seconds) // few, 1) * few
    return timed(more)


def say(size: int, seen: dict[int, float], why: str) -> str:
    """What was found, told and returned."""
    rates = ", ".join(f"{n}: {rate:,.0f}" for n, rate in sorted(seen.items()))
    said = f"batch size {size}; images/s by batch size: {rates or 'none'}; {why}"
    logs.say(f"tune: {said}")
    return said
