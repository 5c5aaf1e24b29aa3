"""Mean Teacher: the network agrees with its own moving average about another view.

Tarvainen and Valpola, "Mean Teachers are Better Role Models", arXiv:1703.01780: the
Pi-Model whose target is the teacher's prediction.

Departures: the teacher's decay rises to `ema_decay` as core.rising does, where the
authors' code (CuriousAI/mean-teacher, pytorch/main.py at 546348f) takes min(alpha, 1 -
1 / (step + 1)), the paper 0.99 while the weight rises, and google-research/fixmatch
(mean_teacher.py at d4985a1) and USB one decay: the last is `ema_warmup=False`, which
the configs of papers have. Google's code compares unlabeled images alone, and so does
this; the authors' compares labeled ones too, with a second head or without. From USB
(semilearn/algorithms/meanteacher/meanteacher.py at 1ef4cbe): its network's logits of
the other view are the teacher's own, so that its consistency is a constant. Weight,
rise and views are the Pi-Model's here, whose departures they share.
"""

from dataclasses import dataclass

import jax

from ssl_jax.algorithms.pi_model import PiModel
from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.core import TrainState, forward, model_rngs
from ssl_jax.core.ranges import Weight


@dataclass(frozen=True, kw_only=True)
class MeanTeacher(PiModel):
    consistency_weight: Weight = 50.0  # at its highest: both codes', on any data set

    def target(self, state: TrainState, images_UHWC: jax.Array, key) -> jax.Array:
        """logits_UK by the teacher, whose BatchNorm sees this batch as well."""
        variables, rngs = ema_teacher.variables(state), model_rngs(key, 1)
        return forward(self.model, *variables, images_UHWC, train=True, rngs=rngs)[0]
