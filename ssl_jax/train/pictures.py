"""What a phase shows before and after its training, and a run at its end: Figures."""

import dataclasses
from collections.abc import Iterable

import jax
import numpy as np
from matplotlib.figure import Figure

from ssl_jax.augment import ctaugment
from ssl_jax.core import TrainState, can
from ssl_jax.data.loading import Data
from ssl_jax.report.figures import curves
from ssl_jax.report.figures.images import views_grid
from ssl_jax.train.parts import Run
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import at, first_item


def before(phase: Phase) -> dict[str, Figure]:
    """The views that it trains on, by kind."""
    views = example_views(phase)
    title = f"{phase.title}: what the model sees"
    return {"views": views_grid(views, title)} if views else {}


def after(
    phase: Phase,
    data: Data,
    state: TrainState,
    rows: list[dict],
    counts_KK: np.ndarray | None,
) -> dict[str, Figure]:
    """How it went, by kind.

    Args:
      rows: of its journal.
      counts_KK: of test images, [truth, prediction]; None: it does not classify.
    """
    class_names = data.dataset.class_names
    figures = curves.of_phase(phase.title, rows, counts_KK, class_names)
    if can(phase.algorithm, "reconstruct") and "test" in data.eval_sets:
        images = phase.algorithm.reconstruct(state, data.eval_sets["test"][0])
        images = {name: np.asarray(shown) for name, shown in images.items()}
        title = f"{phase.title}: test images"
        figures["reconstructions"] = views_grid(images, title)
    return figures


def compared(run: Run, rows: Iterable[dict]) -> dict[str, Figure]:
    """The labeled phases of a run over each other, where there are several."""
    rows_of = {}
    for row in rows:
        if run.trained[row["phase"]].method.draws_from == "labeled":
            rows_of.setdefault(row["phase"], []).append(row)
    if len(rows_of) < 2:
        return {}
    return {"comparison": curves.comparison(rows_of, run.name)}


def example_views(phase: Phase, count: int = 10) -> dict[str, np.ndarray]:
    """Images of the first step and views of them, uint8: name -> images_NHWC.

    Beside the plain ones, only the views that the algorithm's train_step asks for;
    nothing for an algorithm without views.
    """
    given = phase.section.views
    if given is None:
        return {}
    batch = phase.feed.batch(phase.feed.arrays, at(first_item(phase), 0))
    asked = []

    def recorded(name):
        view = getattr(given, name)
        if view is None:  # `probe`, where the strong view is not CTAugment
            return None
        return lambda *args, **named: (asked.append(name), view(*args, **named))[1]

    recording = type(given)(*map(recorded, given._fields))
    algorithm = dataclasses.replace(phase.algorithm, views=recording)
    state = jax.eval_shape(algorithm.init, phase.key, batch)
    jax.eval_shape(algorithm.train_step, state, batch, phase.key)

    images = batch.get("unlabeled_image", batch["image"])[:count]
    std, mean = (np.array(phase.section.augment[name]) for name in ("std", "mean"))
    views = {"plain": given.plain(images)}
    for i, name in enumerate(given._fields):
        if name in asked and name != "plain":
            key = jax.random.fold_in(phase.key, i)
            # CTAugment as it is before training; other strong views ignore the rates.
            rates = (ctaugment.init(),) if name == "strong" else ()
            view = jax.jit(getattr(given, name))(key, images, *rates)
            views[name] = view[0] if name == "probe" else view  # (images, drawn)
    return {
        name: np.clip(np.asarray(view) * std + mean, 0, 255).round().astype(np.uint8)
        for name, view in views.items()
    }
