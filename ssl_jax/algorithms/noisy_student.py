"""Noisy student: a network learns, under noise, what an earlier one said without it.

Xie et al., "Self-training with Noisy Student improves ImageNet classification",
arXiv:1911.04252, algorithm 1. The rounds are phases: one with `labels_from` is the
student of that phase, which labels the unlabeled images (`train/self_training.py`; the
paper balances the classes as its `per_class` does). The first teacher is trained the
same way, on the labels alone.

Departures: the noise is the strong view; the paper and its code
(google-research/noisystudent at aac52bf) add dropout and stochastic depth, here
`model.dropout` and, of timm's networks, `model.stochastic_depth`, which are off. They
draw labeled and unlabeled images in a fixed proportion; here they are one set, in the
proportion in which they are there. A student is as large as its teacher, where theirs
may be larger.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import optax
from flax import linen as nn

from ssl_jax import core
from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import Algorithm, Batch, Metrics, TrainState
from ssl_jax.core.losses import soft_cross_entropy_per_example
from ssl_jax.core.ranges import Decay


@dataclass(frozen=True, kw_only=True)
class NoisyStudent(Algorithm):
    """Judged, and as a teacher heard, by its EMA: as the other methods are."""

    draws_from: ClassVar[str] = "labeled"
    views_kind: ClassVar[str] = "weak_strong"
    learns_augmentation: ClassVar[bool] = True
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    hard: bool = False  # the teacher's argmax as label; the paper's are soft
    ema_decay: Decay = 0.999  # of the parameters; not the paper's
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    init = ema_teacher.init
    predict = ema_teacher.predict
    features = ema_teacher.features

    def loss(self, params, model_state, x_BHWC, batch: Batch, key):
        logits_BK, model_state = core.forward(
            self.model,
            params,
            model_state,
            x_BHWC,
            train=True,
            rngs=core.model_rngs(key),
        )
        target_BK = jax.nn.one_hot(batch["label"], logits_BK.shape[-1])
        if "label_probs" in batch and not self.hard:
            target_BK = batch["label_probs"]  # one-hot where the label is granted
        loss_B = soft_cross_entropy_per_example(logits_BK, target_BK)
        correct_B = logits_BK.argmax(-1) == batch["label"]
        return loss_B.mean(), (model_state, {"accuracy": core.mean(correct_B)})

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_strong, key_probe = jax.random.split(key)
        rates = state.extra.get("rates")  # CTAugment's
        x_BHWC = self.views.strong(key_strong, batch["image"], rates)
        state, metrics = core.gradient_step(
            lambda params: self.loss(params, state.model_state, x_BHWC, batch, key),
            self.tx,
            state,
        )
        state = ema_teacher.update(self, state)
        return ema_teacher.probe(self, state, batch, key_probe), metrics
