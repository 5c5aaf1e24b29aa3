"""Cross-entropy on the labeled images alone: the floor that the others stand on.

It may mix them: MixUp (Zhang et al., arXiv:1710.09412), CutMix (Yun et al.,
arXiv:1905.04899).

Departures: of these two from the authors' codes (facebookresearch/mixup-cifar10,
train.py at 1fe8c5e; clovaai/CutMix-PyTorch, train.py at 5ee7b8d), each image has its
own lambda and box, and its partner is of the same cell of rows (`mixup.partners`).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.algorithms.shared import ema_teacher, mixup
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    TrainState,
    forward,
    gradient_step,
    is_off,
    mean,
    model_rngs,
)
from ssl_jax.core.losses import (
    cross_entropy_per_example,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.ranges import Decay, Rate, Weight


@dataclass(frozen=True, kw_only=True)
class Supervised(Algorithm):
    """One augmented view of each image; judged by its EMA, as the other methods are."""

    draws_from: ClassVar[str] = "labeled"
    views_kind: ClassVar[str] = "weak_strong"
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    frozen: bool = False  # only the head is trained: the encoder's moments rest as well
    strong: bool = False  # the strong view instead of the weak one: a higher floor
    # the part of a label that is spread over all classes (arXiv:1512.00567, section 7)
    label_smoothing: Rate = 0.0
    # of the Beta distributions of MixUp and of CutMix; 0: it is not done. The papers
    # have 1 on CIFAR, and MixUp's 0.1 to 0.4 on ImageNet
    mixup_alpha: Weight = 0.0
    cutmix_alpha: Weight = 0.0  # both: one of the two a step, either as likely
    ema_decay: Decay = 0.999  # of the parameters
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    init = ema_teacher.init
    predict = ema_teacher.predict
    features = ema_teacher.features

    def images(self, batch: Batch, key):
        """The views to train on, and of mixed ones what `loss` takes."""
        view = self.views.strong if self.strong else self.views.weak
        if not (self.mixup_alpha or self.cutmix_alpha):
            return view(key, batch["image"]), None
        key_view, key_mix = jax.random.split(key)
        x_BHWC, *mixed = mixup.mixed_or_cut(
            key_mix,
            view(key_view, batch["image"]),
            batch["label"],
            mixup_alpha=self.mixup_alpha,
            cutmix_alpha=self.cutmix_alpha,
        )
        return x_BHWC, mixed

    def loss(self, params, model_state, x_BHWC, labels_B, key, mixed=None):
        """`mixed`: of mixed images (the others' labels_B, lambda_B)."""
        logits_BK, model_state = forward(
            self.model,
            params,
            model_state,
            x_BHWC,
            train=not self.frozen,
            rngs=model_rngs(key),
        )
        loss_B = cross_entropy_per_example(logits_BK, labels_B)
        if mixed is not None:
            other_B, own_B = mixed
            loss_B *= own_B
            loss_B += (1 - own_B) * cross_entropy_per_example(logits_BK, other_B)
        if not is_off(self.label_smoothing):
            uniform_BK = jnp.full(logits_BK.shape, 1 / logits_BK.shape[-1])
            loss_B *= 1 - self.label_smoothing
            loss_B += self.label_smoothing * soft_cross_entropy_per_example(
                logits_BK, uniform_BK
            )
        correct_B = logits_BK.argmax(-1) == labels_B  # its own, mixed or not
        return loss_B.mean(), (model_state, {"accuracy": mean(correct_B)})

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        x_BHWC, mixed = self.images(batch, key)
        fixed = {"encoder": state.params["encoder"]} if self.frozen else {}

        def loss(params):
            params = params | fixed
            model_state, labels_B = state.model_state, batch["label"]
            return self.loss(params, model_state, x_BHWC, labels_B, key, mixed)

        state, metrics = gradient_step(loss, self.tx, state)
        # Weight decay moves even what has no gradient.
        state = state.replace(params=state.params | fixed)
        return ema_teacher.update(self, state), metrics
