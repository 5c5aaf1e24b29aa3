"""How many steps a time allows: each phase's speed is measured before it trains.

The steps that follow stand in the configuration like any others, so that the run can
be done again, bit for bit, on a machine of another speed.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ssl_jax.data import loading
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.evaluate.batches import compile_evaluation
from ssl_jax.train import phases, sections
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import compile_phase
from ssl_jax.workdir import settings

# Fields of a phase that are numbers of steps, so that they grow with it.
EVERY = ("eval_every", "log_every", "checkpoint_every")
_SECONDS = 2.0  # of steps that a rate is measured by, about
_MOST = 1000  # calls of the same
_BATCHES = 8  # of each set, that an evaluation is measured by
_AROUND = 4.0  # seconds: figures, saving, the result, loading it
_STEPS = 0.95  # of what is left; the rest is between short steps: what is said of them
_FEWEST = 10  # steps of a phase that are worth it


class Pace(NamedTuple):
    """A phase's."""

    steps_per_second: float
    compile_seconds: float
    evaluation_seconds: float  # of one


def within(
    config: ConfigDict, seconds: float, mesh: Mesh, dataset: Dataset | None = None
) -> ConfigDict:
    """A copy of `config` whose phases end within `seconds`, which begin now, as this
    machine is: all of its phases are longer or shorter by the same factor, and so is
    what they count in steps.

    Args:
      dataset: as of `train.run.run`.

    Raises:
      UserError: a mistake in the configuration or the data, or the time is too short.
    """
    began = time.monotonic()
    run = sections.parse(_anew(config), mesh.size)
    data = loading.load(
        run.data, mesh, seed=run.seed, as_graph=run.on_graph, dataset=dataset
    )
    reading = time.monotonic() - began
    pace = {
        name: measured(phases.build(run, section, data, mesh), data)
        for name, section in run.trained.items()
    }
    again = reading + _AROUND
    for name, its in pace.items():
        again += its.compile_seconds
        evaluations = -(-config[name].steps // config[name].eval_every)
        again += its.evaluation_seconds * evaluations
    spent = time.monotonic() - began
    left = _STEPS * (seconds - spent - again)
    whole = sum(config[name].steps / p.steps_per_second for name, p in pace.items())
    shortest = min(config[name].steps for name in pace)
    factor = left / whole
    if factor * shortest < _FEWEST:
        least = spent + again + _FEWEST / shortest * whole / _STEPS
        rates = ", ".join(
            f"{name} does {its.steps_per_second:.3g} steps/s"
            for name, its in pace.items()
        )
        raise UserError(
            f"{seconds:.0f} s are too few to train {run.name}: reading, compiling and "
            f"evaluating take {spent + again:.0f} of them, and {rates}; give it "
            f"{least / 60:.1f} minutes or more."
        )
    return longer(config, factor, list(pace))


def _anew(config: ConfigDict) -> ConfigDict:
    """A copy whose phases have numbers of steps that no run before had. The schedule is
    part of the program: what JAX keeps of another number is of no use to the run, and
    would make compiling look quicker than it will be."""
    names = [name for name in config.phases if settings.trains(config[name])]
    config = longer(config, 1, names)
    for name in names:
        config[name].steps += config[name].steps_per_call * (time.time_ns() % 9973)
    return config


def as_there(config: ConfigDict, there: Mapping) -> ConfigDict:
    """A copy of `config` with the numbers of steps of `there`, the configuration of a
    run that `within` has paced; what else they do not share stays."""
    config = ConfigDict(config.to_dict())
    for name in config.phases:
        for at, value in _paced(there.get(name, {})).items():
            section, field = at
            inside = config[name][section] if section else config[name]
            if field in inside:
                inside[field] = value
    return config


def _paced(phase: Mapping) -> dict[tuple[str, str], int]:
    """(section of the phase, field): what `longer` has changed there."""
    if not settings.trains(phase):
        return {}
    found = {("", field): phase[field] for field in ("steps", *EVERY)}
    for section in ("optimizer", "algorithm"):
        for field, value in phase[section].items():
            if field.endswith("_steps") and value > 0:
                found[section, field] = value
    return found


def measured(phase: Phase, data: loading.Data) -> Pace:
    """Of the compiled call with its feed, and of an evaluation.

    Raises:
      UserError: what it starts from is not there, or does not fit.
    """
    per_call = phase.section.steps_per_call
    with jax.set_mesh(phase.mesh):
        state, sums, call, compile_seconds = compile_phase(phase)
        taken, calls = 0.0, 1
        for _ in range(3):  # the first warms up
            began = time.monotonic()
            for item in phase.feed.items(0, calls * per_call):
                state, sums = call(state, sums, phase.feed.arrays, item)
            jax.block_until_ready(state)
            taken = (time.monotonic() - began) / (calls * per_call)
            calls = min(max(1, round(_SECONDS / 2 / (taken * per_call))), _MOST)
        compiling, evaluation = _evaluation(phase, state, data)
    return Pace(1 / taken, compile_seconds + compiling, evaluation)


def _evaluation(phase, state, data):
    """(seconds to compile one, seconds that one takes), by the first batches of each
    set that is held out; k-NN not counted."""
    evaluate = compile_evaluation(phase.algorithm, phase.rows, phase.key).sums
    compiling = once = 0.0
    for batches in data.eval_sets.values():
        some = [batches[i] for i in range(min(_BATCHES, len(batches)))]
        first, second = (_timed(evaluate, state, some) for _ in range(2))
        compiling += max(first - second, 0)
        once += second * len(batches) / len(some)
    return compiling, once


def _timed(evaluate, state, batches):
    began = time.monotonic()
    jax.block_until_ready(evaluate(state, batches))
    return time.monotonic() - began


def longer(config: ConfigDict, factor: float, names: list[str]) -> ConfigDict:
    """A copy whose phases `names` have about `factor` times their steps, and what they
    count in steps likewise: how often they evaluate, a rise of the learning rate, and
    whatever else of their method is called *_steps."""
    config = ConfigDict(config.to_dict())
    for name in names:
        phase = config[name]
        unit = phase.steps_per_call
        for (section, field), value in _paced(phase).items():
            if section:
                phase[section][field] = max(round(value * factor), 1)
            else:
                phase[field] = max(round(value * factor / unit), 1) * unit
    return config
