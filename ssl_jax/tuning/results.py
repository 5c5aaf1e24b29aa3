"""What a search leaves: policy.json, and a line of it for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.train.parts import Trains
from ssl_jax.tuning import space
from ssl_jax.tuning.bench import Bench
from ssl_jax.tuning.budget import Budget
from ssl_jax.tuning.search import Stages
from ssl_jax.tuning.study import Study, figure
from ssl_jax.workdir import policy, results
from ssl_jax.workdir.policy import Policy
from ssl_jax.workdir.settings import with_tuples
from ssl_jax.workdir.workdir import Workdir


class Figure(NamedTuple):
    """Of settings, over the draws that they were judged on."""

    accuracy: float
    loss: float
    draws: int


class Found(NamedTuple):
    """What a search has found for a phase, as policy.json has it."""

    settings: Mapping[str, Any]
    found: Mapping[str, str]
    validation: Mapping[str, Any]
    budget: Mapping[str, Any]  # what it took

    @classmethod
    def of(cls, noted: Mapping) -> "Found":
        """In an earlier launch: in this one nothing was compiled for it."""
        found = cls(**with_tuples(dict(noted)))
        return found._replace(budget={**found.budget, "programs": 0, "compiling": 0.0})


def of_phase(bench: Bench, stages: Stages, study: Study, budget: Budget) -> Found:
    """The settings that were best, or the config's own where none were better."""
    name, figures = best(study)
    trials = {str(trial.number): trial for trial in study.trials}
    data, section = bench.data(), stages.section
    if name == "own":
        values = _own(stages, bench)
    else:
        values = _flat(stages.values(trials[name].params, whole=True))
    of_trial = stages.own()["steps"]
    return Found(
        settings=space.of_run(values, section.name),
        found=space.of_run(
            {field: _how(field, name, stages, study) for field in values}, section.name
        ),
        validation={
            "before": figures["own"]._asdict(),
            "after": figures[name]._asdict(),
            "images": len(data.split.validation),
            "labels": len(data.split.labeled),
            "steps": of_trial,
            "of_steps": section.steps,
        },
        budget={
            "seconds": budget.spent,
            "tried": len(study.trials),
            "to_their_end": len(study.best),
            "programs": bench.programs,
            "compiling": bench.compiling,
        },
    )


def write(
    workdir: Workdir,
    bench: Bench,
    phases: Mapping[str, Found],
    beside: Mapping[str, float],
) -> Policy:
    """Writes policy.json, and returns it.

    Args:
      bench: of any of the phases.
      phases: what was found for each, by its name.
      beside: seconds of what lay between the searches, by what it was.
    """
    data, every = bench.data(), list(phases.values())
    budgets = {name: found.budget for name, found in phases.items()}
    tune, took = bench.config["tune"], {}
    for field in every[0].budget:
        took[field] = sum(budget[field] for budget in budgets.values())
    validation = every[0].validation
    if len(phases) > 1:
        validation = {name: found.validation for name, found in phases.items()}
        took["seconds"] += sum(beside.values())
        took |= {"phases": budgets, "beside": dict(beside)}
    policy_found = Policy(
        name=bench.config["name"],
        settings={f: value for found in every for f, value in found.settings.items()},
        found={f: how for found in every for f, how in found.found.items()},
        validation=validation,
        data=data.dataset.name,
        shape=tuple(data.dataset.images_NHWC.shape[1:]),
        class_names=data.dataset.class_names,
        budget={"minutes": tune["minutes"], "trials": tune["trials"], **took},
        device=results.device(bench.mesh),
        versions=results.versions(),
        git=results.git_state(),
    )
    policy.write(workdir.path, policy_found)
    return policy_found


def best(study: Study) -> tuple[str, Mapping[str, Figure]]:
    """("own" or the number of a trial, the figures of all that may be chosen): by the
    finals, as far as all of them were in those; or else by the search, whose own
    figures flatter the best of many."""
    rows = study.known("finals", [])
    of = {row[0]: {} for row in rows}  # by draw
    for name, draw, *found in rows:
        of[name][draw] = found
    common = set.intersection(*map(set, of.values())) if rows else set()
    if len(of) > 1 and common:
        figures = {
            name: _mean([found[draw] for draw in common]) for name, found in of.items()
        }
    else:
        figures = {
            "own" if t.user_attrs.get("own") else str(t.number): Figure(
                *t.user_attrs["judged"][1:3], 1
            )
            for t in study.best
        }
    top = max(figures, key=lambda name: (_value(figures[name]), name == "own"))
    return top, figures


def summary(found: Policy, path: Path) -> str:
    """For the terminal: what was found, what it bought, and how to use it."""
    budget, figures = found.budget, found.of_phases
    lines = [
        f"{budget['tried']} trials, {budget['to_their_end']} of them to their end, in "
        f"{budget['seconds'] / 60:.1f} minutes; this launch compiled "
        f"{budget['programs']} programs, {budget['compiling']:.0f} s of it",
    ]
    for name, validation in figures.items():
        before, after = validation["before"], validation["after"]
        lines += [
            (f"{name}: " if len(figures) > 1 else "")
            + f"accuracy on {validation['images']} images held out, mean of "
            f"{after['draws']}: {before['accuracy']:.2%} before, "
            f"{after['accuracy']:.2%} after, by trials of {validation['steps']} steps "
            f"(the config has {validation['of_steps']})",
            *(
                f"  {field} = {value!r}"
                for field, value in found.settings.items()
                if field.startswith(f"{name}.")
            ),
        ]
    of_network = space.of_network(found.settings)
    lines += [f"  {field} = {value!r}" for field, value in of_network.items()]
    return "\n".join([*lines, f"--config.policy={path / policy.FILE} applies it"])


def _mean(pairs):
    accuracy, loss = np.mean(pairs, axis=0)
    return Figure(float(accuracy), float(loss), len(pairs))


def _value(found):
    return figure(found.accuracy, found.loss)


def _own(stages: Stages, bench: Bench) -> dict[str, Any]:
    """The config's own settings of all that was tried."""
    fields = {"batch_size": 0, "optimizer.learning_rate": 0, "optimizer.per_batch": 0}
    fields |= {f: 0 for f in stages.space(bench) if not f.startswith("learning_rate.")}
    fields.pop("length", None)
    return {field: stages.own_value(field) for field in (*fields, "steps")}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted fields of the phase, those of a whole "algorithm" among them."""
    values = dict(values)
    algorithm = values.pop("algorithm", None)
    if algorithm is None:
        return values
    return values | {f"algorithm.{name}": value for name, value in algorithm.items()}


def _how(field: str, name: str, stages: Stages, study: Study) -> str:
    """How the value of a field was found."""
    section: Trains = stages.section
    if name == "own":
        return "the config's own: nothing was better"
    trial = next(trial for trial in study.best if str(trial.number) == name)
    of = f"trial {name} of {len(study.trials)}"
    if field == "batch_size":
        of_size = f"{of}, beside the config's own; " if field in trial.params else ""
        return of_size + stages.how_batch_size
    if field == "optimizer.learning_rate":
        lowest = ", ".join(f"{k}: {v:.2g}" for k, v in stages.rates.items())
        return f"{of}; range test, rate of the lowest loss by optimizer: {lowest}"
    if field == "optimizer.per_batch":
        return "the learning rate is for this batch size"
    if field in trial.params:
        return of
    if field == "steps" or field.endswith("_steps"):
        return f"as many images as {section.steps} steps of the config, times length"
    return f"with the method, which {of} chose"
