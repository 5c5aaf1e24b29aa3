"""Dash: FixMatch that keeps what has a small loss, less and less as training goes on.

Xu et al., "Dash: Semi-Supervised Learning with Dynamic Thresholding", ICML 2021
(proceedings.mlr.press/v139/xu21e); symbols are the paper's, values those of USB.

With few labels rho^ is next to nothing, as the network knows them by heart when it is
measured. The bound then is rho_min from the first round on, labels are hard, and Dash
is FixMatch at a threshold of exp(-0.05) = 0.951.

Departures: rho^ is the paper's, the mean loss of the labeled set at the warmed-up
weights: of its augmented images in training mode, as many as there are, the last of the
warm-up's batches, in which network and teacher rest (the optimizer does not: its
schedule goes by steps, and its momentum takes in the gradients). USB
(microsoft/Semi-supervised-learning, semilearn/algorithms/dash/dash.py at 1ef4cbe) takes
the loss on the test set instead; the authors' code (idstcv/Dash, dash.py at bbd13cc)
that of the unlabeled images against their own predictions in the last epoch of a
warm-up that trains on all of them. The warm-up is the first `warmup_steps` of the run;
USB counts the run's after it. From the authors' code: the bound is on the loss to the
target, as in USB, where theirs is on the loss to the hard label, while labels are soft
too; <=, as in USB and the paper, for their <; the loss is a mean over all U, as
FixMatch's, where theirs is one over those kept, times 0.9.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets
from ssl_jax.core import Batch, Metrics, TrainState
from ssl_jax.core.losses import sharpen, soft_cross_entropy_per_example
from ssl_jax.core.ranges import Count, Positive, Range, Weight


@dataclass(frozen=True, kw_only=True)
class Dash(FixMatch):
    num_labeled: int
    threshold: ClassVar[None] = None  # the bound is on the loss of the weak view
    warmup_steps: Count = 2048  # on labeled images alone; the last ones measure rho^
    round_steps: Count = 10_240  # steps between decreases of the bound
    gamma: Annotated[float, Range(1)] = 1.27  # the bound's decrease
    C: Annotated[float, Range(1)] = 1.0001  # the bound is C gamma^-round rho^
    rho_min: Weight = 0.05  # where it stops, and labels become hard; nats
    temperature: Positive = 0.5  # of the soft labels before that

    def init_thresholds(self) -> dict[str, jax.Array]:
        """rho^: the mean of the labeled losses measured so far."""
        return {"rho_hat": jnp.float32(0)}

    def measured(self, step: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
        """(whether the step measures rho^, how many did before it).

        The last steps of the warm-up do, in which the labeled set goes by once, or half
        of the warm-up where that is less."""
        passes = min(-(-self.num_labeled // batch_size), (self.warmup_steps + 1) // 2)
        before = step - (self.warmup_steps - passes)
        return (before >= 0) & (before < passes), before

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        measures, before = self.measured(seen.step, len(seen.loss_B))
        rho_hat = thresholds["rho_hat"]
        moved = rho_hat + (seen.loss_B.mean() - rho_hat) / (before + 1)
        rho_hat = jnp.where(measures, moved, rho_hat)
        after = seen.step - self.warmup_steps
        rounds = jnp.maximum(after, 0) // self.round_steps
        rho = jnp.maximum(self.C * self.gamma**-rounds * rho_hat, self.rho_min)

        # exp(-rho): the confidence at which a hard label's loss is rho.
        threshold_K = jnp.full(seen.weak_UK.shape[-1], jnp.exp(-rho))
        label_UK = jax.nn.one_hot(seen.weak_UK.argmax(-1), seen.weak_UK.shape[-1])
        soft_UK = sharpen(seen.weak_UK, self.temperature)
        target_UK = jnp.where(rho == self.rho_min, label_UK, soft_UK)
        log_UK = jnp.log(jnp.maximum(seen.weak_UK, 1e-30))
        loss_U = soft_cross_entropy_per_example(log_UK, target_UK)
        weight_U = ((loss_U <= rho) & (after >= 0)).astype(jnp.float32)
        targets = Targets(target_UK, weight_U, seen.weak_UK, threshold_K)
        return targets, {"rho_hat": rho_hat}

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        """FixMatch's; but the network and its teacher rest while rho^ is measured."""
        after, metrics = super().train_step(state, batch, key)
        measures, _ = self.measured(state.step, len(batch["label"]))

        def rest(before, after):
            return jax.tree.map(partial(jnp.where, measures), before, after)

        ema = rest(state.extra["ema"], after.extra["ema"])
        return after.replace(
            params=rest(state.params, after.params),
            model_state=rest(state.model_state, after.model_state),
            extra={**after.extra, "ema": ema},
        ), metrics
