"""The encoder in a file of weights by itself: features of images, without a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import models
from ssl_jax.augment import basic
from ssl_jax.core import make_mesh
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.errors import UserError
from ssl_jax.models import pretrained
from ssl_jax.train import restored, weights
from ssl_jax.train.classifier import in_few_sizes
from ssl_jax.train.parts import Run
from ssl_jax.workdir import handover
from ssl_jax.workdir.files import expanded


@dataclass(frozen=True, eq=False)
class Encoder:
    """What `model.weights` names, to be asked about images; `of_file` makes one."""

    holds: str  # "a ViT in timm's and DINO's layout"
    shape: tuple[int, int, int]  # (H, W, C) that images are brought to
    reading: Reading  # how files are
    features: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    def asked(self, what: str) -> Callable[[np.ndarray], np.ndarray]:
        """features_BD float32 of uint8 images_BHWC: it knows nothing else of them."""
        return {"features": self.features}[what]


def of_file(run: Run) -> Encoder:
    """The encoder in the file `run.model.weights`, in the network of `run.model`.

    Images are brought to `data.image_size` pixels a side, or to what they were for the
    file, if something beside it says so.

    Raises:
      UserError: the file cannot be read or does not fit, or it is not known to which
        size images are to be brought, or how to be normalised.
    """
    model = run.model
    file = pretrained.read(expanded(model.weights))
    shape = _shape(run, file)
    normalised = _normalised(run, file)
    network = models.build(model.name, num_classes=1, **model.hparams)
    blank = jnp.zeros((1, *shape), jnp.float32)
    init = partial(network.init, jax.random.key(run.seed), train=False)
    variables = init(blank) if model.partial else jax.eval_shape(init, blank)
    fitted = pretrained.fitted(
        file.tensors,
        handover.kept(variables, ("encoder",), model.weights),
        name=model.name,
        path=model.weights,
        partial=model.partial,
    )
    weights.warn_of(fitted)

    def features(_, parts, batch):
        x_BHWC = normalised(batch["image"])
        return network.apply(parts, x_BHWC, train=False, method="features")

    compiled = restored.compiled(None, fitted.parts, make_mesh(), features)
    reading = Reading(run.data.white, run.data.max_pixels)
    return Encoder(fitted.holds, shape, reading, in_few_sizes(compiled))


def _shape(run, file):
    side, its = run.data.image_size, file.input
    if not side and its is None:
        raise UserError(
            f"model.weights={run.model.weights!r} does not say which size its images "
            "had: give pixels a side, as by data.image_size=224."
        )
    if not side:
        return its.shape
    shape = (side, side, 3 if its is None else its.shape[2])
    weights.warn_of_size(run.model, its, shape)
    return shape


def _normalised(run, file):
    """A function of uint8 images_BHWC."""
    section = next(iter(run.trained.values()))
    its = weights.normalization(run.model, file.input)
    if its is not None:
        return partial(basic.normalize, mean=its[0], std=its[1])
    if section.views is None:
        raise UserError(
            f"model.normalized='{weights.AS_CONFIGURED}' is by {section.name}.augment, "
            f"and {section.algorithm} has no views: say 'imagenet' or 'half'."
        )
    return section.views.plain
