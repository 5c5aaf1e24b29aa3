"""A phase looked at: what it is judged by on held-out images, and what it sees."""

import dataclasses

import jax
import numpy as np

from ssl_jax.augment import ctaugment
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import at, first_item


def example_views(phase: Phase, count: int = 10) -> dict[str, np.ndarray]:
    """Images of the first step and views of them, uint8: name -> images_NHWC.

    Beside the plain ones, only the views that the algorithm's train_step asks for;
    nothing for an algorithm without views.
    """
    if phase.views is None:
        return {}
    batch = phase.feed.batch(phase.feed.arrays, at(first_item(phase), 0))
    asked = []

    def recorded(name):
        view = getattr(phase.views, name)
        if view is None:  # `probe`, where the strong view is not CTAugment
            return None
        return lambda *args, **named: (asked.append(name), view(*args, **named))[1]

    recording = type(phase.views)(*map(recorded, phase.views._fields))
    algorithm = dataclasses.replace(phase.algorithm, views=recording)
    state = jax.eval_shape(algorithm.init, phase.key, batch)
    jax.eval_shape(algorithm.train_step, state, batch, phase.key)

    images = batch.get("unlabeled_image", batch["image"])[:count]
    std, mean = (np.array(phase.config.augment[name]) for name in ("std", "mean"))
    views = {"plain": phase.views.plain(images)}
    for i, name in enumerate(phase.views._fields):
        if name in asked and name != "plain":
            key = jax.random.fold_in(phase.key, i)
            # CTAugment as it is before training; other strong views ignore the rates.
            rates = (ctaugment.init(),) if name == "strong" else ()
            view = jax.jit(getattr(phase.views, name))(key, images, *rates)
            views[name] = view[0] if name == "probe" else view  # (images, drawn)
    return {
        name: np.clip(np.asarray(view) * std + mean, 0, 255).round().astype(np.uint8)
        for name, view in views.items()
    }
