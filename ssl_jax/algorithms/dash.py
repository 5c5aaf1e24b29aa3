"""Dash: FixMatch that keeps what has a small loss, less and less as training goes on.

Xu et al., "Dash: Semi-Supervised Learning with Dynamic Thresholding", ICML 2021
(proceedings.mlr.press/v139/xu21e); symbols are the paper's, values those of USB.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets
from ssl_jax.core import ema
from ssl_jax.core.losses import sharpen, soft_cross_entropy_per_example
from ssl_jax.core.ranges import Count, Positive, Range, Weight, Whole


@dataclass(frozen=True, kw_only=True)
class Dash(FixMatch):
    threshold: ClassVar[None] = None  # the bound is on the loss of the weak view
    warmup_steps: Whole = 2048  # on labeled images alone, which set rho^
    round_steps: Count = 10_240  # steps between decreases of the bound
    gamma: Annotated[float, Range(1)] = 1.27  # the bound's decrease
    C: Annotated[float, Range(1)] = 1.0001  # the bound is C gamma^-round rho^
    rho_min: Weight = 0.05  # where it stops, and labels become hard; nats
    temperature: Positive = 0.5  # of the soft labels before that

    def init_thresholds(self) -> dict[str, jax.Array]:
        """rho^: the labeled loss by the end of the warm-up, a running mean."""
        return {"rho_hat": jnp.float32(0)}

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        # The paper takes the mean over the labeled set once; its batches are at hand.
        loss = seen.loss_B.mean()
        decay = jnp.where(seen.step == 0, 0.0, 0.99)
        warming_up = seen.step < self.warmup_steps
        moved = ema(thresholds["rho_hat"], loss, decay)
        rho_hat = jnp.where(warming_up, moved, thresholds["rho_hat"])
        rounds = jnp.maximum(seen.step - self.warmup_steps, 0) // self.round_steps
        rho = jnp.maximum(self.C * self.gamma**-rounds * rho_hat, self.rho_min)

        # exp(-rho): the confidence at which a hard label's loss is rho.
        threshold_K = jnp.full(seen.weak_UK.shape[-1], jnp.exp(-rho))
        label_UK = jax.nn.one_hot(seen.weak_UK.argmax(-1), seen.weak_UK.shape[-1])
        soft_UK = sharpen(seen.weak_UK, self.temperature)
        target_UK = jnp.where(rho == self.rho_min, label_UK, soft_UK)
        log_UK = jnp.log(jnp.maximum(seen.weak_UK, 1e-30))
        loss_U = soft_cross_entropy_per_example(log_UK, target_UK)
        weight_U = ((loss_U <= rho) & ~warming_up).astype(jnp.float32)
        targets = Targets(target_UK, weight_U, seen.weak_UK, threshold_K)
        return targets, {"rho_hat": rho_hat}
