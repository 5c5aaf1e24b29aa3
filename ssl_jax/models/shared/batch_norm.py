"""Batch normalisation whose running moments do not remember their start."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core import rising


class BatchNorm(nn.BatchNorm):
    """Flax's, names and arithmetic alike, with a momentum that rises.

    A fixed momentum of 0.999 leaves 0.999^t of the initial mean 0 and variance 1 after
    t passes in training mode: .37 of them after 1,000, and .0025 after 6,000, which is
    more than all of the variance of a layer where that is 1e-3. With `warmup` the
    momentum is `core.rising` by the passes so far, batch_stats' "count".
    """

    warmup: bool = True  # False: Flax's BatchNorm, without a count

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x, normalised over all axes but the last."""
        if not self.warmup:
            return super().__call__(x)
        count = self.variable("batch_stats", "count", lambda: jnp.zeros(()))
        momentum = rising(self.momentum, count.value)
        norm = self.clone(momentum=momentum, warmup=False, parent=self.scope)
        if not (self.use_running_average or self.is_initializing()):
            count.value = count.value + 1  # not in place: it may be NumPy's
        return norm(x)
