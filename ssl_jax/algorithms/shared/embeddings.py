"""What CoMatch and SimMatch are made of: a classifier that embeds images as well, and
predictions aligned to the mean of those before.

An algorithm with the fields model, tx, views, projection and weak_gradient, and those
of `ema_teacher`, has a property `network` and takes `init = embeddings.init`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.core import (
    Batch,
    PyTree,
    TrainState,
    concat_views,
    forward,
    model_rngs,
    split_views,
)
from ssl_jax.core.losses import align, unit_length
from ssl_jax.models import Classifier

# Steps that the mean prediction is taken over: CoMatch's, and USB's of both. SimMatch's
# own code, ImageNet's, has 256.
MARGINALS = 32


class Outputs(NamedTuple):
    """Of one view."""

    logits_BK: jax.Array
    embedding_BP: jax.Array  # of length 1


class Projector(nn.Module):
    """Linear, LeakyReLU, Linear, brought to length 1."""

    out: int
    slope: float  # below 0

    @nn.compact
    def __call__(self, features_BD: jax.Array) -> jax.Array:
        y_BD = nn.Dense(features_BD.shape[-1])(features_BD)
        return unit_length(nn.Dense(self.out)(nn.leaky_relu(y_BD, self.slope)))


class Network(Classifier):
    """The classifier, and a projector beside its head. The first and the encoder keep
    their names, so the variables fit `Classifier` as well."""

    projection: int = 64
    slope: float = 0.0

    def setup(self):
        super().setup()
        self.projector = Projector(self.projection, self.slope)

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> Outputs:
        y_BD = self.features(images_BHWC, train=train)
        if train:
            y_BD = self.dropped(y_BD)
        return Outputs(self.head(y_BD), self.projector(y_BD))


def beside(model: Classifier, projection: int, slope: float = 0.0) -> Network:
    """The model, with a projector to so many numbers."""
    return Network(model.encoder, model.num_classes, model.dropout, projection, slope)


def init(
    self, key: jax.Array, batch: Batch, initial: PyTree | None = None
) -> TrainState:
    """The network, its teacher, and the mean predictions of no step."""
    with_projector = dataclasses.replace(self, model=self.network)
    state = ema_teacher.init(with_projector, key, batch, initial)
    marginals_SK = jnp.zeros((MARGINALS, self.model.num_classes))
    return state.replace(extra={**state.extra, "marginals_SK": marginals_SK})


def outputs(self, params, model_state, views, key) -> tuple[list[Outputs], PyTree]:
    """In training mode, of labeled, weak and one or more strong views, and the moved
    model_state: one pass over all of them, or, without `weak_gradient`, one of the weak
    views before one of the others. Weak views have no gradient in either."""
    labeled, weak, *strong = views
    first = []
    if not self.weak_gradient:
        alone, model_state = forward(
            self.network,
            jax.lax.stop_gradient(params),
            model_state,
            weak,
            train=True,
            rngs=model_rngs(key, 1),
        )
        first, views = [alone], (labeled, *strong)
    sizes = [len(view) for view in views]
    joined, model_state = forward(
        self.network,
        params,
        model_state,
        concat_views(*views),
        train=True,
        rngs=model_rngs(key),
        sizes=sizes,
    )
    parts = (split_views(part, *sizes) for part in joined)
    of_labeled, *rest = map(Outputs, *parts)
    of_weak, *of_strong = [*first, *rest]
    return [of_labeled, jax.lax.stop_gradient(of_weak), *of_strong], model_state


def aligned(state: TrainState, logits_UK: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Predictions, as even over the classes as those of the last `MARGINALS` steps,
    this one among them, were together: (probs_UK, the marginals_SK of those)."""
    probs_UK = jax.nn.softmax(logits_UK.astype(jnp.float32))
    marginals_SK = state.extra["marginals_SK"]
    marginals_SK = marginals_SK.at[state.step % MARGINALS].set(probs_UK.mean(0))
    mean_K = marginals_SK.sum(0) / jnp.minimum(state.step + 1, MARGINALS)
    return align(probs_UK, 1 / probs_UK.shape[-1], mean_K), marginals_SK


def product(x_UD: jax.Array, y_MD: jax.Array) -> jax.Array:
    """x y^T, [U, M]."""
    return jnp.matmul(x_UD, y_MD.T, precision=jax.lax.Precision.HIGHEST)
