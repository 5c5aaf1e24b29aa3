"""What a phase shows before and after its training, and a run at its end: functions
that draw a Figure each."""

import dataclasses
from collections.abc import Iterable
from functools import partial

import jax
import numpy as np

from ssl_jax.augment import ctaugment
from ssl_jax.augment.basic import grey_levels
from ssl_jax.core import TrainState, can, fetch
from ssl_jax.data.loading import Data
from ssl_jax.report import figures, measured
from ssl_jax.train import phases
from ssl_jax.train.parts import Run, Trains
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import at, first_item
from ssl_jax.workdir.drawing import Drawing


def before(phase: Phase) -> dict[str, Drawing]:
    """The views that it trains on, by kind."""
    if phase.section.views is None:
        return {}

    def views():
        title = f"{phase.title}: what the model sees"
        return figures.images.views_grid(example_views(phase), title)

    return {"views": views}


def after(
    phase: Phase,
    data: Data,
    state: TrainState,
    rows: list[dict],
    counts_KK: np.ndarray | None,
) -> dict[str, Drawing]:
    """How it went, by kind.

    Args:
      rows: of its journal.
      counts_KK: of test images, [truth, prediction]; None: it does not classify.
    """
    unit, names = "images" if data.graph is None else "nodes", data.dataset.class_names
    loss = loss_of(phase.section)
    shown = figures.curves.of_phase(phase.title, rows, counts_KK, names, unit, loss)

    def reconstructions():
        images = phase.algorithm.reconstruct(state, data.eval_sets["test"][0])
        images = {name: fetch(of_it) for name, of_it in images.items()}
        return figures.images.views_grid(images, f"{phase.title}: test images")

    if can(phase.algorithm, "reconstruct") and "test" in data.eval_sets:
        shown["reconstructions"] = reconstructions
    return shown


def loss_of(section: Trains) -> str:
    """What its training loss is, where the rows have no other name for it."""
    spreads = can(section.method, "transduce")
    return measured.CHANGE if spreads else measured.CROSS_ENTROPY


def compared(run: Run, data: Data, rows: Iterable[dict]) -> dict[str, Drawing]:
    """The labeled phases of a run over each other, where there are several."""
    rows_of = {}
    for row in rows:
        if run.trained[row["phase"]].method.draws_from == "labeled":
            rows_of.setdefault(row["phase"], []).append(row)
    if len(rows_of) < 2:
        return {}
    title = phases.title(run, data.split)
    return {"comparison": partial(figures.curves.comparison, rows_of, title)}


def example_views(phase: Phase, count: int = 10) -> dict[str, np.ndarray]:
    """Images of the first step and views of them, uint8: name -> images_NHWC.

    Beside the plain ones, only the views that the algorithm's train_step asks for;
    nothing for an algorithm without views.
    """
    given = phase.section.views
    if given is None:
        return {}
    batch, asked = _first_batch(phase), asked_views(phase)
    images = batch.get("unlabeled_image", batch["image"])[:count]
    views = {"plain": given.plain(images)}
    for i, name in enumerate(given._fields):
        if name in asked and name != "plain":
            key = jax.random.fold_in(phase.key, i)
            # CTAugment as it is before training; other strong views ignore the rates.
            rates = (ctaugment.init(),) if name == "strong" else ()
            view = jax.jit(getattr(given, name))(key, images, *rates)
            views[name] = view[0] if name == "probe" else view  # (images, drawn)
    return {
        name: np.asarray(grey_levels(given.plain, images.shape[1:], fetch(view)))
        for name, view in views.items()
    }


def asked_views(phase: Phase) -> list[str]:
    """The names of the views that the algorithm's train_step asks for, as often as it
    does; none of an algorithm without views."""
    given = phase.section.views
    if given is None:
        return []
    batch, asked = _first_batch(phase), []

    def recorded(name):
        view = getattr(given, name)
        if view is None:  # `probe`, where the strong view is not CTAugment
            return None
        return lambda *args, **named: (asked.append(name), view(*args, **named))[1]

    recording = type(given)(*map(recorded, given._fields))
    algorithm = dataclasses.replace(phase.algorithm, views=recording)
    state = jax.eval_shape(algorithm.init, phase.key, batch)
    jax.eval_shape(algorithm.train_step, state, batch, phase.key)
    return asked


def _first_batch(phase):
    return phase.feed.batch(phase.feed.arrays, at(first_item(phase), 0))
