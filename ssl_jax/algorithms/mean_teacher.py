"""Mean Teacher: the network agrees with its own moving average about another view.

Tarvainen and Valpola, "Mean Teachers are Better Role Models", arXiv:1703.01780: the
Pi-Model whose target is the teacher's prediction. One decay from the first step on,
where the paper has 0.99 while the weight rises.
"""

from dataclasses import dataclass

import jax

from ssl_jax.algorithms.pi_model import PiModel
from ssl_jax.core import TrainState, forward, model_rngs
from ssl_jax.core.ranges import Weight


@dataclass(frozen=True, kw_only=True)
class MeanTeacher(PiModel):
    consistency_weight: Weight = 50.0  # at its highest: USB's for CIFAR-10

    def target(self, state: TrainState, images_UHWC: jax.Array, key) -> jax.Array:
        """logits_UK by the teacher, whose BatchNorm sees this batch as well."""
        variables, rngs = state.extra["ema"], model_rngs(key, 1)
        return forward(self.model, *variables, images_UHWC, train=True, rngs=rngs)[0]
