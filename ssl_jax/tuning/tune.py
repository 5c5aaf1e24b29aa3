"""--mode=tune, from a config to policy.json: the walk of a search.

    own program      how fast a step is: how long trials may be, if there is time at all
    batch size       batch_size.py
    learning rate    learning_rate.py, for each optimizer
    search           trials by optuna, most of which end early (search.py, study.py)
    finals           its best beside the config's own, on other labels each time
    policy.json      the best of those (results.py)

What is known is noted in the study as it comes, so that a killed search goes on; what
takes time asks `budget.Budget` first.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ssl_jax import algorithms
from ssl_jax.core import can, make_mesh
from ssl_jax.data import found
from ssl_jax.errors import UserError
from ssl_jax.train import adapted, sections
from ssl_jax.train import run as runs
from ssl_jax.train.parts import Run, Trains
from ssl_jax.tuning import batch_size, learning_rate, results, search, space
from ssl_jax.tuning.bench import Bench
from ssl_jax.tuning.budget import (
    COMPILING,
    LEARNING_RATE,
    TRIAL,
    Budget,
    trial_steps,
)
from ssl_jax.tuning.study import PARTS, Study
from ssl_jax.workdir import logs
from ssl_jax.workdir.policy import Policy

_NEEDED = 12  # trials' time that a budget must have at least, beside compiling


class Pace(NamedTuple):
    """How fast the phase trains with the config's own settings."""

    steps_per_second: float
    compile_seconds: float


def tune(config: Mapping[str, Any], path: Path) -> Policy:
    """Looks for settings of the config's phase that classifies, or goes on looking
    where the workdir `path` has begun; and writes policy.json there.

    No image to test on plays a part: none is read into the data that trials have.

    Raises:
      UserError: a mistake in the configuration, the data or the workdir; a phase that
        cannot be tuned; or too little time for a trial.
    """
    mesh = make_mesh()
    config, read = adapted.to_data(config, path, mesh)
    wanted = sections.parse(config, mesh.size)
    section = tuned(wanted)
    entered = runs.entered(wanted, path, mesh, read=read, tests=False)
    with entered as (workdir, data), jax.set_mesh(mesh):
        logs.say(found.line(found.facts(data, wanted.data.image_size)))
        bench = Bench(wanted.config, section.name, data, mesh, wanted.tune.held_out)
        held = len(bench.data().split.validation)
        logs.say(
            f"tune: {section.name} of {wanted.name}, on {held:,} labeled images held "
            f"out of {len(data.split.labeled):,}; {_budget(wanted)}"
        )
        seconds = 60 * wanted.tune.minutes or math.inf
        budget = Budget(seconds)
        study = None
        if Study.begun(workdir.path):
            study = Study(workdir.path, wanted.seed)
            budget = Budget(seconds, before=study.known("spent", 0.0))
            logs.say(
                f"tune: goes on after {logs.clock(budget.before)} and "
                f"{len(study.trials)} trials"
            )
        if study is not None and budget.left <= 0 and study.has_own:
            stages = _noted(study, section, wanted)  # nothing is left but to tell
        else:
            pace = _pace(bench, section)
            steps = _steps(section, budget, pace, begun=study is not None)
            study = study or Study(workdir.path, wanted.seed)
            stages = _noted(study, section, wanted)
            if stages is None:
                stages = _stages(bench, section, wanted, study, budget, pace, steps)
            search.search(bench, stages, study, budget, wanted.tune.trials)
            search.finals(bench, stages, study, budget)
            study.note("spent", budget.spent)
        if not study.has_own:
            raise UserError(
                f"tune.minutes={wanted.tune.minutes:g} were over before a trial of the "
                "config's own settings was: give more, and the same command goes on."
            )
        return results.write(workdir, bench, stages, study, budget)


def summary(policy: Policy, path: Path) -> str:
    """For the terminal: what was found, and what it bought."""
    return results.summary(policy, path)


def tuned(wanted: Run) -> Trains:
    """The phase that settings are looked for: the last that classifies images.

    Raises:
      UserError: there is none that can be tuned by itself.
    """
    at = "--mode=tune"
    for field, value in (
        ("num_seeds", wanted.num_seeds > 1),
        ("query.rounds", wanted.query.rounds),
    ):
        if value:
            raise UserError(f"{at} tries settings of one run: leave {field} as it is.")
    classifying = [
        section
        for section in wanted.trained.values()
        if can(section.method, "predict")
        and section.method.draws_from == "labeled"
        and algorithms.takes(section.method, "tx")
    ]
    if not classifying:
        raise UserError(
            f"{at} is for methods that train a classifier on labeled batches, and "
            f"{wanted.name} has none: {', '.join(wanted.trained)}."
        )
    section = classifying[-1]
    if section.start_from in wanted.trained or section.labels_from:
        raise UserError(
            f"{section.name} follows another phase of {wanted.name}, and {at} trains "
            "one phase at a time: train the others first, in a workdir of their own "
            f"(config.phases=...), then tune {section.name} from there, by "
            f"config.phases={section.name} and config.{section.name}.start_from."
        )
    return section


def _budget(wanted):
    given = []
    if wanted.tune.minutes:
        given.append(f"{wanted.tune.minutes:g} minutes")
    if wanted.tune.trials:
        given.append(f"{wanted.tune.trials} trials")
    return " or ".join(given)


def _pace(bench, section):
    compiled, cost = bench.compiled({})
    rate = batch_size.steps_per_second(bench, {})
    logs.say(f"tune: {rate:.3g} steps/s of {section.name} as it is ({cost})")
    return Pace(rate, compiled.seconds)


def _steps(section, budget, pace, *, begun):
    """Of a trial with the config's own settings.

    Raises:
      UserError: too little time for one.
    """
    least = PARTS * section.steps_per_call
    steps = trial_steps(
        section.steps,
        seconds=TRIAL * budget.total,
        steps_per_second=pace.steps_per_second,
        multiple=least,
    )
    trial = max(steps, least) / pace.steps_per_second
    if begun or (steps and budget.spent + _NEEDED * trial / 2 <= budget.total):
        return max(steps, least)
    needed = 1.2 * (budget.spent + _NEEDED * least / pace.steps_per_second) / 60
    raise UserError(
        f"tune.minutes={budget.total / 60:g} is too little for a trial: to compile it "
        f"took {pace.compile_seconds:.0f} s here, and its {least} steps at least take "
        f"{least / pace.steps_per_second:.1f} s; use tune.minutes="
        f"{max(math.ceil(10 * needed) / 10, 0.1):g} or more."
    )


def _noted(study, section, wanted):
    """What an earlier launch has found before its search; None without one.

    Raises:
      UserError: it judged by other images, or chose among other methods.
    """
    given = [wanted.tune.held_out, list(wanted.tune.methods)]
    there = study.known("given", given)
    if there != given:
        raise UserError(
            f"this search began with tune.held_out={there[0]} and tune.methods="
            f"{tuple(there[1])}: give those, or another --workdir."
        )
    study.note("given", given)
    noted = study.known("stages")
    return None if noted is None else search.Stages.of(noted, section, wanted.config)


def _stages(bench, section, wanted, study, budget, pace, steps):
    """What is to be found before the search."""
    size, how = _batch_size(bench, section, budget, pace)
    study.note("spent", budget.spent)
    # Programs that a trial may need, if it may: another optimizer's, another method's.
    compiles = pace.compile_seconds <= COMPILING * budget.total
    if not compiles:
        logs.say(
            f"tune: a program takes {pace.compile_seconds:.0f} s to compile, which is "
            f"above {COMPILING:.0%} of the time: only what one program can try is tried"
        )
    values = {"batch_size": size}
    rates = _learning_rates(bench, section, budget, pace, values, compiles)
    stages = search.Stages(
        batch_size=size,
        how_batch_size=how,
        rates=rates,
        compiles=compiles,
        images=steps * section.batch_size,
        whole=steps > section.steps - PARTS * section.steps_per_call,
        section=section,
        config=wanted.config,
    )
    study.note("stages", stages.noted())
    study.note("spent", budget.spent)
    return stages


def _batch_size(bench, section, budget, pace):
    own, split = section.batch_size, bench.data().split
    most = max(own, len(split.labeled))
    if section.unlabeled_ratio:
        most = min(most, len(split.unlabeled) // section.unlabeled_ratio)
    parts = bench.mesh.size * bench.config["accumulate"]

    def measure(size):
        values = {"batch_size": size}
        took = 0.0 if size == own else pace.compile_seconds
        return batch_size.measured(bench, values, size, budget, took)

    above, below = batch_size.sizes(own, most, parts)
    size, seen, why = batch_size.chosen(own, above, below, measure)
    return size, batch_size.say(size, seen, why)


def _learning_rates(bench, section, budget, pace, values, compiles):
    """{optimizer: rate at which the loss was lowest} of those that there is time for;
    of one without a test, ten times the config's rate."""
    own = bench.config[section.name]["optimizer"]
    names = [own["name"]]
    if compiles:
        names = space.optimizers_beside(own["name"])
    call, rates = section.steps_per_call, {}
    for name in names:
        share = LEARNING_RATE * budget.total / len(names)
        taken = pace.compile_seconds if name != own["name"] else 0.0
        steps = min(learning_rate.STEPS, (share - taken) * pace.steps_per_second)
        if steps >= learning_rate.FEWEST:
            steps = max(round(steps / call), 1) * call
            tried = {**values, "optimizer.name": name}
            lowest = learning_rate.test(bench, tried, steps, lambda: budget.left < 0)
            if lowest:
                rates[name] = lowest
    usual = space.USUAL * space.rate(section, bench.config)
    return {own["name"]: usual, **rates}
