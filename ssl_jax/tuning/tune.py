"""--mode=tune, from a config to policy.json: the walk of a search.

    own program      how fast a step is: how long trials may be, if there is time at all
    batch size       batch_size.py
    learning rate    learning_rate.py, for each optimizer
    search           trials by optuna, most of which end early (search.py, study.py)
    finals           its best beside the config's own, on other labels each time
    next phase       of those that follow, the same from what this one has become, once
                     it is trained with what was found (chain.py)
    policy.json      the best of those (results.py)

What is known is noted in the study as it comes, so that a killed search goes on; what
takes time asks `budget.Budget` first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ssl_jax.core import make_mesh
from ssl_jax.data import found
from ssl_jax.errors import UserError
from ssl_jax.train import adapted, sections
from ssl_jax.train import run as runs
from ssl_jax.train.parts import Run, Trains
from ssl_jax.tuning import (
    batch_size,
    chain,
    learning_rate,
    paces,
    results,
    search,
    space,
)
from ssl_jax.tuning.bench import Bench
from ssl_jax.tuning.budget import COMPILING, LEARNING_RATE, Budget
from ssl_jax.tuning.study import PARTS, Study
from ssl_jax.workdir import logs
from ssl_jax.workdir.policy import Policy
from ssl_jax.workdir.workdir import Workdir


def tune(config: Mapping[str, Any], path: Path) -> Policy | None:
    """Looks for settings of the config's phases that classify, or goes on looking where
    the workdir `path` has begun; and writes policy.json there.

    No image to test on plays a part: none is read into the data that trials have, or
    what is trained between two searches.

    Returns:
      What was found, or None if a SIGTERM or Ctrl-C ended a training between two
      searches (the same call goes on from there).

    Raises:
      UserError: a mistake in the configuration, the data or the workdir; a phase that
        cannot be tuned; or too little time for a trial.
    """
    mesh = make_mesh()
    config, read = adapted.to_data(config, path, mesh)
    wanted = sections.parse(config, mesh.size)
    phases = chain.of(wanted)
    entered = runs.entered(wanted, path, mesh, read=read, tests=False)
    with entered as (workdir, data), jax.set_mesh(mesh):
        logs.say(found.line(found.facts(data, wanted.data.image_size)))
        benches = chain.benches(wanted, phases, data, mesh)
        plan, measured = chain.planned(wanted, phases, benches, workdir)
        searched, beside, before = {}, {"measuring": plan.measuring}, None
        for number, section in enumerate(phases):
            name, bench = section.name, benches[section.name]
            if before is not None:
                bench.follow(before, wanted.config["model"])
            took = [each.budget["seconds"] for each in searched.values()]
            seconds = plan.share(sum(took) + sum(beside.values()), number)
            study = None
            if number or Study.begun(workdir.path):
                study = Study(workdir.path, wanted.seed, name if number else "tune")
                _check_given(study, wanted)
            searched[name], study = _searched(
                wanted, section, bench, workdir, study, seconds, measured.get(name)
            )
            of_network = space.of_network(searched[name].settings)
            changed = sections.changed(wanted.config, of_network)
            wanted = sections.parse(changed, mesh.size)
            if section is phases[-1]:
                return results.write(workdir, bench, searched, beside)
            if study.known("found") is None:
                study.note("found", searched[name]._asdict())
            trained = chain.train(
                wanted, name, searched[name], before, data, workdir, study, mesh
            )
            if trained is None:
                return None
            before, beside[f"training {name}"] = trained


def summary(policy: Policy, path: Path) -> str:
    """For the terminal: what was found, and what it bought."""
    return results.summary(policy, path)


def _searched(
    wanted: Run,
    section: Trains,
    bench: Bench,
    workdir: Workdir,
    study: Study | None,
    seconds: float,
    pace: paces.Pace | None,
) -> tuple[results.Found, Study]:
    """What is found for a phase in so many seconds over all launches, and its study;
    what was, where the next one has begun.

    Args:
      study: None: there is no file of it yet.
      pace: None: it was not measured yet.

    Raises:
      UserError: too little time for a trial.
    """
    if study is not None and (over := study.known("found")):
        logs.say(f"tune: the search for {section.name} is over")
        return results.Found.of(over), study
    split = bench.data().split
    held, labels = len(split.validation), len(split.labeled)
    logs.say(
        f"tune: {section.name} of {wanted.name}, on {held:,} labeled images held "
        f"out of {held + labels:,}; {_budget(wanted, seconds)}"
    )
    budget = Budget(seconds)
    if study is not None and study.known("given"):
        budget = Budget(seconds, before=study.known("spent", 0.0))
        logs.say(
            f"tune: goes on after {logs.clock(budget.before)} and "
            f"{len(study.trials)} trials"
        )
    if study is not None and budget.left <= 0 and study.has_own:
        stages = _noted(study, section, bench)  # nothing is left but to tell
    else:
        pace = pace or paces.measured(bench, section)
        steps = paces.trial_steps(section, budget, pace, begun=study is not None)
        study = study or Study(workdir.path, wanted.seed)
        study.note("given", _given(wanted))
        stages = _noted(study, section, bench)
        if stages is None:
            stages = _stages(bench, section, study, budget, pace, steps)
        search.search(bench, stages, study, budget, wanted.tune.trials)
        search.finals(bench, stages, study, budget)
        study.note("spent", budget.spent)
    if not study.has_own:
        raise UserError(
            f"tune.minutes={wanted.tune.minutes:g} were over before a trial of the "
            "config's own settings was: give more, and the same command goes on."
        )
    return results.of_phase(bench, stages, study, budget), study


def _budget(wanted, seconds):
    given = []
    if wanted.tune.minutes:
        given.append(f"{seconds / 60:.4g} minutes")
    if wanted.tune.trials:
        given.append(f"{wanted.tune.trials} trials")
    return " or ".join(given)


def _given(wanted):
    """By what a search judges, and among what it chooses."""
    return [wanted.tune.held_out, list(wanted.tune.methods)]


def _check_given(study, wanted):
    """Raises UserError where the search began with something else."""
    there = study.known("given", _given(wanted))
    if there != _given(wanted):
        raise UserError(
            f"this search began with tune.held_out={there[0]} and tune.methods="
            f"{tuple(there[1])}: give those, or another --workdir."
        )


def _noted(study, section, bench):
    """What an earlier launch has found before its search; None without one."""
    noted = study.known("stages")
    return None if noted is None else search.Stages.of(noted, section, bench.config)


def _stages(bench, section, study, budget, pace, steps):
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
        config=bench.config,
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
