"""Stochastic depth: residual branches that some images of a batch go without.

Huang et al., arXiv:1603.09382, image by image and scaled in training, so that
evaluation takes every branch as it is.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Rate


class StochasticDepth(nn.Module):
    """A branch in training: y / (1 - rate), where an image's is 0 with probability
    `rate`.

    Each row draws by its number (`core.row_numbers`), so that it drops the same
    wherever devices have it.
    """

    rate: Rate

    @nn.compact
    def __call__(self, y: jax.Array, *, train: bool) -> jax.Array:
        """y, whose first axis is the batch."""
        if not (train and self.rate):
            return y
        key, number_B = self.make_rng("dropout"), jnp.arange(len(y))
        if self.scope.root.has_variable("rows", "number"):
            number_B = jnp.asarray(self.scope.root.get_variable("rows", "number"))

        def kept(number):
            return jax.random.bernoulli(jax.random.fold_in(key, number), 1 - self.rate)

        kept_B = jax.vmap(kept)(number_B).reshape(-1, *[1] * (y.ndim - 1))
        return jnp.where(kept_B, y / (1 - self.rate), jnp.zeros((), y.dtype))


def rising(rate: float, blocks: int) -> list[float]:
    """The rate of each block: linear from 0 in the first to `rate` in the last."""
    return [rate * i / max(blocks - 1, 1) for i in range(blocks)]
