"""MixMatch: guessed labels, sharpened, and everything mixed with everything.

Berthelot et al., "MixMatch: A Holistic Approach to Semi-Supervised Learning",
arXiv:1905.02249; equation numbers are the paper's. "The code" is the authors' own
(google-research/mixmatch, mixmatch.py at 1011a1d), as it is in google-research/fixmatch
(mixmatch.py at d4985a1).

Departures: from the code, all mixed images are normalised in one pass, and all views in
another, where it has a pass for each batch of B, of which the first mixed one moves the
averages of BatchNorm; images are mixed within cells of rows (`mixup.partners`), not
over the whole batch; and lambda_u rises over the paper's 16,000 steps, where it has
16,384.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import optax
from flax import linen as nn

from ssl_jax import core
from ssl_jax.algorithms.shared import ema_teacher, mixup
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import Algorithm, Batch, Metrics, TrainState
from ssl_jax.core.losses import sharpen, soft_cross_entropy_per_example
from ssl_jax.core.ranges import Count, Decay, Positive, Weight, Whole


@dataclass(frozen=True, kw_only=True)
class MixMatch(Algorithm):
    """Trains on weak views only."""

    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    least_batch: ClassVar[int] = 2  # a row is mixed with another
    views_kind: ClassVar[str] = "weak_strong"
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    unlabeled_weight: Weight = 75.0  # lambda_u at its highest: the paper's for CIFAR-10
    rampup_steps: Whole = 16_000  # of the linear rise of lambda_u from 0
    num_views: Count = 2  # K: of each unlabeled image
    temperature: Positive = 0.5  # T of the sharpening
    alpha: Positive = 0.75  # of the Beta distribution of MixUp
    ema_decay: Decay = 0.999  # of the parameters; evaluation only
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    init = ema_teacher.init
    predict = ema_teacher.predict
    features = ema_teacher.features

    def guess(self, state: TrainState, views, key) -> jax.Array:
        """Mean prediction over the views, probs_UK (eq. 6): in training mode, but the
        running statistics do not move, both as in the code."""
        sizes = [len(view) for view in views]
        joined, _ = core.forward(
            self.model,
            state.params,
            state.model_state,
            core.concat_views(*views),
            train=True,
            rngs=core.model_rngs(key, 1),
            sizes=sizes,
        )
        probs = jax.nn.softmax(joined)
        return sum(core.split_views(probs, *sizes)) / len(views)

    def loss(self, params, state: TrainState, images_BGHWC, target_BGK, key):
        # One pass, so that BatchNorm sees labeled and unlabeled images together. The
        # code feeds it B at a time, interleaved for the same purpose.
        logits, model_state = core.forward(
            self.model,
            params,
            state.model_state,
            mixup.flat(images_BGHWC),
            train=True,
            rngs=core.model_rngs(key),
        )
        logits_BGK = logits.reshape(target_BGK.shape)
        loss_B = soft_cross_entropy_per_example(logits_BGK[:, 0], target_BGK[:, 0])
        square_BGK = (jax.nn.softmax(logits_BGK) - target_BGK) ** 2
        unlabeled_loss = square_BGK[:, 1:].mean()  # eq. 4: over U, K and the classes
        weight = self.unlabeled_weight * core.ramp(state.step, self.rampup_steps)
        right_BG = logits_BGK.argmax(-1) == target_BGK.argmax(-1)
        metrics = {
            "labeled_loss": core.mean(loss_B),  # eq. 3
            "unlabeled_loss": core.mean(unlabeled_loss),
            "accuracy": core.mean(right_BG[:, 0]),  # of mixed images
        }
        return loss_B.mean() + weight * unlabeled_loss, (model_state, metrics)  # eq. 5

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_u, key_mix = jax.random.split(key, 3)
        x_BHWC = self.views.weak(key_x, batch["image"])
        views = [
            self.views.weak(key_view, batch["unlabeled_image"])
            for key_view in jax.random.split(key_u, self.num_views)
        ]
        probs_UK = self.guess(state, views, key)
        guess_UK = sharpen(probs_UK, self.temperature)
        label_BK = jax.nn.one_hot(batch["label"], guess_UK.shape[-1])
        mixed = mixup.mixup(
            key_mix,
            mixup.by_rows(x_BHWC, *views),
            mixup.by_rows(label_BK, *[guess_UK] * self.num_views),
            self.alpha,
        )
        state, metrics = core.gradient_step(
            lambda params: self.loss(params, state, *mixed, key), self.tx, state
        )
        metrics |= mixup.quality(probs_UK, batch["unlabeled_label"])
        return ema_teacher.update(self, state), metrics
