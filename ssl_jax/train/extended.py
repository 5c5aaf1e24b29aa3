"""A run that goes on with more steps than it began with, or evaluated at others.

It may where what it has trained would have been trained just so: then it ends as if it
had begun with what it is asked for now.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ssl_jax import algorithms
from ssl_jax.train import optimizers, stopping
from ssl_jax.train.parts import Run, Trains
from ssl_jax.workdir import settings
from ssl_jax.workdir.workdir import Workdir


def verdicts(run: Run, workdir: Workdir) -> dict[str, str]:
    """Of the phases' fields `steps` and `eval_every`, those in which the run in the
    workdir differs: {"train.steps": why it may not, or "" where it may}."""
    config, said = workdir.config or {}, {}
    for name, section in run.trained.items():
        there = config.get(name, {})
        if there.get("steps", section.steps) != section.steps:
            said[f"{name}.steps"] = _of_steps(run, section, there, workdir)
        if there.get("eval_every", section.eval_every) != section.eval_every:
            begun = stopping.watches(section) and workdir.phase(name).trained
            why = f"{', '.join(stopping.RULES)} count evaluations"
            said[f"{name}.eval_every"] = why if begun else ""
    return said


def _of_steps(run, section, there, workdir):
    """Why the phase, as it is `there`, may not have other steps, or ""."""
    if run.num_seeds > 1:
        return "seeds that are trained at once keep no network to go on from"
    if run.query.rounds:
        return "each round learned from what the one before it had asked"
    folder = workdir.phase(section.name)
    trained = folder.trained
    if trained > section.steps:
        return f"{trained} are trained already"
    followers = [
        other.name
        for other in run.sections
        if section.name in (other.start_from, getattr(other, "labels_from", ""))
        and workdir.phase(other.name).path.exists()
    ]
    if followers:
        return f"{', '.join(followers)} began with what it was"
    if trained and algorithms.takes(section.method, "total_steps"):
        return (
            f"{section.algorithm} goes by the number of all steps, so that the "
            f"{trained} which are trained would have been others"
        )
    if not _same_past(run, section, there, trained):
        schedule = run.config[section.name]["optimizer"]["schedule"]
        return (
            f"optimizer.schedule={schedule!r} is stretched over all steps, so that the "
            f"{trained} which are trained would have been others; a 'constant' one "
            f"goes on, and {section.name}.start_from={folder.path} takes the network "
            "over into another --workdir"
        )
    return ""


def _same_past(run: Run, section: Trains, there: Mapping, trained: int) -> bool:
    """Whether the learning rates of the steps that are trained are the same."""
    optimizer = run.config[section.name]["optimizer"]
    if section.rate is None or not trained:
        return True
    if there["optimizer"] != settings.plain(optimizer):
        return True  # for which it is refused anyhow
    rate, _ = optimizers.of_phase(
        optimizers.Optimizer(**optimizer),
        batch_size=section.batch_size,
        total_steps=there["steps"],
    )
    steps = jnp.arange(trained)
    ours, theirs = (jax.vmap(each)(steps) for each in (section.rate, rate))
    return bool((ours == theirs).all())
