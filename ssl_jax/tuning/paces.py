"""How fast a phase trains as the config has it, and how long trials may be."""

import math
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.train.parts import Trains
from ssl_jax.tuning import batch_size, budget
from ssl_jax.tuning.bench import Bench
from ssl_jax.tuning.budget import TRIAL, Budget
from ssl_jax.tuning.study import PARTS
from ssl_jax.workdir import logs

_NEEDED = 12  # trials' time that a budget must have at least, beside compiling


class Pace(NamedTuple):
    """How fast a phase trains as the config has it."""

    steps_per_second: float
    compile_seconds: float


def measured(bench: Bench, section: Trains) -> Pace:
    """By some seconds of steps, inside `jax.set_mesh`."""
    compiled, cost = bench.compiled({})
    rate = batch_size.steps_per_second(bench, {})
    logs.say(f"tune: {rate:.3g} steps/s of {section.name} as it is ({cost})")
    return Pace(rate, compiled.seconds)


def trial_steps(section: Trains, spends: Budget, pace: Pace, *, begun: bool) -> int:
    """Of a trial with the config's own settings.

    Args:
      begun: whether there was time for one when the search began.

    Raises:
      UserError: too little time for one.
    """
    least = _least(section)
    steps = budget.trial_steps(
        section.steps,
        seconds=TRIAL * spends.total,
        steps_per_second=pace.steps_per_second,
        multiple=least,
    )
    trial = max(steps, least) / pace.steps_per_second
    if begun or (steps and spends.spent + _NEEDED * trial / 2 <= spends.total):
        return max(steps, least)
    needed = 1.2 * (spends.spent + _NEEDED * least / pace.steps_per_second) / 60
    raise UserError(
        f"tune.minutes={spends.total / 60:g} is too little for a trial: to compile it "
        f"took {pace.compile_seconds:.0f} s here, and its {least} steps at least take "
        f"{least / pace.steps_per_second:.1f} s; use tune.minutes="
        f"{max(math.ceil(10 * needed) / 10, 0.1):g} or more."
    )


def search_seconds(section: Trains, pace: Pace) -> float:
    """That a search takes at least; its trials may be another program than the run,
    whose step counts do not fit them."""
    return pace.compile_seconds + _NEEDED * _least(section) / pace.steps_per_second


def _least(section):
    return PARTS * section.steps_per_call
