"""FixMatch: a weak view's confident prediction is the strong view's label.

Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and
Confidence", arXiv:2001.07685; equation numbers are the paper's.

FlexMatch, FreeMatch, SoftMatch, AdaMatch, UDA and Dash are FixMatch with another
threshold. Their classes inherit FixMatch and give `init_thresholds` and `targets`, two
pure functions over a state of their own in extra["thresholds"]; FreeMatch also adds a
`regularizer`. Not three functions, init, mask and update, because some papers update
before they mask and others after; and inherited, because objects handed in would have
to repeat every field here.

Departures: none from google-research/fixmatch (fixmatch.py, ablation/ab_fixmatch_ra.py
at d4985a1) as the configs of papers have it: with `weak_gradient`, without
`ema_warmup`. TorchSSL (models/fixmatch/fixmatch.py at f26e1d4) and USB
(microsoft/Semi-supervised-learning, semilearn/algorithms/fixmatch/fixmatch.py at
1ef4cbe) are the same, but for views and data.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    concat_views,
    forward,
    gradient_step,
    mean,
    model_rngs,
    split_views,
)
from ssl_jax.core.losses import (
    cross_entropy_per_example,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.metrics import pseudo_label_quality
from ssl_jax.core.ranges import Decay, Share, Weight


class Seen(NamedTuple):
    """What a threshold may look at; no gradient goes through it."""

    step: jax.Array  # of the phase, from 0
    labeled_BK: jax.Array  # predicted probabilities of the labeled images
    loss_B: jax.Array  # cross-entropy of the labeled images, in nats
    weak_UK: jax.Array  # predicted probabilities of the weak views
    index_U: jax.Array  # positions of the U images in the unlabeled set


class Targets(NamedTuple):
    """What the strong views are trained towards."""

    target_UK: jax.Array  # distributions; one-hot for a hard pseudo-label
    weight_U: jax.Array  # in [0, 1]; 0: rejected
    probs_UK: jax.Array  # what label and confidence were read from: for diagnostics
    threshold_K: jax.Array  # the confidence each class had to have: for diagnostics


@dataclass(frozen=True, kw_only=True)
class FixMatch(Algorithm):
    """The "google" and "torchssl" protocols differ in `views`, not here."""

    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    views_kind: ClassVar[str] = "weak_strong"
    learns_augmentation: ClassVar[bool] = True
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    threshold: Share = 0.95  # tau: predictions at least this sure become labels
    unlabeled_weight: Weight = 1.0  # lambda_u
    ema_decay: Decay = 0.999  # of the parameters; evaluation only
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start
    # True: one pass over labeled, weak and strong views together, as the paper's code.
    # False: the weak views go first, alone and without gradient, which saves two
    # thirds of their cost; BatchNorm then sees them apart from the others.
    weak_gradient: bool = True

    predict = ema_teacher.predict
    features = ema_teacher.features

    @property
    def network(self) -> nn.Module:
        """What trains: the model, or what a method has beside its head as well."""
        return self.model

    def init(self, key, batch: Batch, initial: PyTree | None = None) -> TrainState:
        state = ema_teacher.init(self, key, batch, initial)
        return state.replace(
            extra={**state.extra, "thresholds": self.init_thresholds()}
        )

    def init_thresholds(self) -> PyTree:
        """The thresholds' state at step 0: a constant has none."""
        return {}

    def targets(self, thresholds: PyTree, seen: Seen) -> tuple[Targets, PyTree]:
        """Targets of a step, and the thresholds' state after it."""
        weight_U = seen.weak_UK.max(-1) >= self.threshold
        threshold_K = jnp.full(seen.weak_UK.shape[-1], self.threshold)
        return hard(seen.weak_UK, weight_U, threshold_K), thresholds

    def labeled_loss(self, x_BK, label_B) -> jax.Array:
        """loss_B of the labeled images: eq. 3."""
        return cross_entropy_per_example(x_BK, label_B)

    def regularizer(self, strong_UK, targets: Targets, thresholds: PyTree):
        """What a method adds to the loss, weighted; FixMatch nothing."""
        return 0.0

    def logits(self, params, model_state, views, key):
        """Training-mode logits of labeled images, weak and strong views, and of what
        comes behind these; and the moved model_state."""
        x_BHWC, weak_UHWC, *others = views
        first = []
        if not self.weak_gradient:
            weak_UK, model_state = forward(
                self.network,
                jax.lax.stop_gradient(params),
                model_state,
                weak_UHWC,
                train=True,
                rngs=model_rngs(key, 1),
            )
            first, views = [weak_UK], (x_BHWC, *others)
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
        x_BK, *rest = split_views(joined, *sizes)
        return [x_BK, *first, *rest], model_state

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        logits, model_state = self.logits(params, state.model_state, views, key)
        loss, metrics, _, thresholds = self.compared(state, batch, *logits)
        return loss, (model_state, metrics, thresholds)

    def compared(self, state: TrainState, batch: Batch, x_BK, weak_UK, strong_UK):
        """(the loss of these logits, its metrics, its targets, and the thresholds'
        state after it)."""
        loss_B = self.labeled_loss(x_BK, batch["label"])
        seen = Seen(
            step=state.step,
            labeled_BK=jax.nn.softmax(x_BK.astype(jnp.float32)),
            loss_B=loss_B,
            weak_UK=jax.nn.softmax(weak_UK.astype(jnp.float32)),
            index_U=batch["unlabeled_index"],
        )
        targets, thresholds = self.targets(
            *jax.lax.stop_gradient((state.extra["thresholds"], seen))
        )
        loss_U = soft_cross_entropy_per_example(strong_UK, targets.target_UK)
        # Over all U, kept or not: eq. 4.
        unlabeled_loss = (loss_U * targets.weight_U).mean()
        metrics = {
            "labeled_loss": mean(loss_B),
            "unlabeled_loss": mean(unlabeled_loss),
            "accuracy": mean(x_BK.argmax(-1) == batch["label"]),
            **pseudo_label_quality(
                targets.probs_UK,
                targets.weight_U,
                batch["unlabeled_label"],
                targets.threshold_K,
            ),
        }
        loss = loss_B.mean() + self.unlabeled_weight * unlabeled_loss
        loss += self.regularizer(strong_UK, targets, thresholds)
        return loss, metrics, targets, thresholds

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_weak, key_strong, key_probe = jax.random.split(key, 4)
        rates = state.extra.get("rates")  # CTAugment's
        views = (
            self.views.weak(key_x, batch["image"]),
            self.views.weak(key_weak, batch["unlabeled_image"]),
            self.views.strong(key_strong, batch["unlabeled_image"], rates),
        )
        state, metrics, thresholds = gradient_step(
            lambda params: self.loss(params, state, views, batch, key), self.tx, state
        )
        state = state.replace(extra={**state.extra, "thresholds": thresholds})
        state = ema_teacher.update(self, state)
        return ema_teacher.probe(self, state, batch, key_probe), metrics


def hard(probs_UK, weight_U, threshold_K) -> Targets:
    """The most probable class of each row is its label."""
    target_UK = jax.nn.one_hot(probs_UK.argmax(-1), probs_UK.shape[-1])
    return Targets(target_UK, weight_U.astype(jnp.float32), probs_UK, threshold_K)
