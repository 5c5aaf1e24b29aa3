"""ReMixMatch: MixMatch with guesses in the labels' proportions, held to strong views.

Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution Alignment and
Augmentation Anchoring", arXiv:1911.09785; section numbers are the paper's. "The code"
is google-research/remixmatch (remixmatch_no_cta.py, cta/ and libml/ at f7061eb).

Departures: from the code, all mixed images are normalised in one pass, which moves the
averages of BatchNorm, and strong and rotated ones in another, where it has a pass for
each 64 images and the last mixed ones move them; the labels' proportions are a mean of
128 batches, not one of decay 0.999; quarter turns are drawn, not dealt out evenly;
images are mixed within cells of rows (`mixup.partners`), not over the whole batch;
CTAugment is FixMatch's, which draws one bin where this code draws two neighbours and
rescales by a part of the side where it does by one of a pixel. With RandAugment in its
place labeled images are strongly augmented as well, cutout included; in TorchSSL
(models/remixmatch/remixmatch.py at f26e1d4) and USB they have the weak view, and there
are two strong views.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax import core
from ssl_jax.algorithms.shared import ema_teacher, mixup
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import Algorithm, Batch, Metrics, PyTree, TrainState
from ssl_jax.core.losses import (
    align,
    cross_entropy_per_example,
    sharpen,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.ranges import Count, Decay, Positive, Weight, Whole
from ssl_jax.errors import UserError
from ssl_jax.models import Classifier

MEMORY = 128  # steps that marginal distributions are averaged over (section 3.1)


class Network(Classifier):
    """The classifier, and a second linear head that tells rotations apart. The first
    and the encoder keep their names, so the variables fit `Classifier` as well."""

    def setup(self):
        super().setup()
        self.rotation_head = nn.Dense(4, kernel_init=nn.initializers.glorot_normal())

    def __call__(self, images_BHWC: jax.Array, *, train: bool):
        """(logits_BK of the classes, logits_B4 of 0 to 3 quarter turns)."""
        y_BD = self.features(images_BHWC, train=train)
        if train:
            y_BD = self.dropped(y_BD)
        return self.head(y_BD), self.rotation_head(y_BD)


@dataclass(frozen=True, kw_only=True)
class ReMixMatch(Algorithm):
    """The marginal distributions of the last steps are in extra["marginals"]."""

    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    least_batch: ClassVar[int] = 2  # a row is mixed with another
    views_kind: ClassVar[str] = "weak_strong"
    learns_augmentation: ClassVar[bool] = True
    model: Classifier
    tx: optax.GradientTransformation
    views: WeakStrong
    num_strong: Count = 2  # K: strong views of each unlabeled image; the paper's is 8
    unlabeled_weight: Weight = 1.5  # lambda_u, of all mixed unlabeled views
    strong_weight: Weight = 0.5  # lambda_u1, of the first strong view, not mixed
    rotation_weight: Weight = 0.5  # lambda_r
    # of the linear rise from 0 of lambda_u and lambda_u1: 2^20 images of 64 a step
    rampup_steps: Whole = 16_384
    temperature: Positive = 0.5  # T of the sharpening
    alpha: Positive = 0.75  # of the Beta distribution of MixUp
    ema_decay: Decay = 0.999  # of the parameters; evaluation only
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    # By the classifier alone, which takes from the average what it has modules for.
    predict = ema_teacher.predict
    features = ema_teacher.features

    @property
    def network(self) -> Network:
        model = self.model
        return Network(model.encoder, model.num_classes, model.dropout)

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        with_both_heads = dataclasses.replace(self, model=self.network)
        state = ema_teacher.init(with_both_heads, key, batch, initial)
        K = self.model.num_classes
        uniform = jnp.full((2, MEMORY, K), 1 / K)  # as in the code
        marginals = dict(zip(("labeled", "unlabeled"), uniform, strict=True))
        return state.replace(extra={**state.extra, "marginals": marginals})

    def guess(self, state: TrainState, weak_UHWC: jax.Array, key):
        """(probs_UK of the weak view, the same aligned and sharpened): in training
        mode, but the running statistics do not move, both as in the code."""
        (logits_UK, _), _ = core.forward(
            self.network,
            state.params,
            state.model_state,
            weak_UHWC,
            train=True,
            rngs=core.model_rngs(key, 2),
        )
        probs_UK = jax.nn.softmax(logits_UK)
        means = {k: v.mean(0) for k, v in state.extra["marginals"].items()}
        aligned_UK = align(probs_UK, means["labeled"], means["unlabeled"])
        guess_UK = sharpen(aligned_UK, self.temperature)
        return jax.lax.stop_gradient((probs_UK, guess_UK))

    def loss(
        self, params, state: TrainState, mixed, strong_UHWC, guess_UK, rotated, key
    ):
        images_BGHWC, target_BGK = mixed
        rotated_UHWC, turns_U = rotated
        # Mixed images in one pass, which moves the averages of BatchNorm, and the
        # others in another: it would see two kinds of images. The code has a pass for
        # each view.
        (logits, _), model_state = core.forward(
            self.network,
            params,
            state.model_state,
            mixup.flat(images_BGHWC),
            train=True,
            rngs=core.model_rngs(key),
        )
        U = len(guess_UK)
        unmixed, _ = core.forward(
            self.network,
            params,
            state.model_state,
            core.concat_views(strong_UHWC, rotated_UHWC),
            train=True,
            rngs=core.model_rngs(key, 1),
            sizes=(U, U),
        )
        (strong_UK, _), (_, turns_U4) = (core.split_views(out, U, U) for out in unmixed)

        logits_BGK = logits.reshape(target_BGK.shape)
        loss_BG = soft_cross_entropy_per_example(logits_BGK, target_BGK)
        labeled_loss, unlabeled_loss = loss_BG[:, 0].mean(), loss_BG[:, 1:].mean()
        strong_loss = soft_cross_entropy_per_example(strong_UK, guess_UK).mean()
        rotation_loss = cross_entropy_per_example(turns_U4, turns_U).mean()
        right_BG = logits_BGK.argmax(-1) == target_BGK.argmax(-1)
        metrics = {
            "labeled_loss": core.mean(labeled_loss),
            "unlabeled_loss": core.mean(unlabeled_loss),
            "strong_loss": core.mean(strong_loss),
            "rotation_loss": core.mean(rotation_loss),
            "accuracy": core.mean(right_BG[:, 0]),  # of mixed images
            "rotation_accuracy": core.mean(turns_U4.argmax(-1) == turns_U),
        }
        risen = core.ramp(state.step, self.rampup_steps)
        loss = (
            labeled_loss
            + risen * self.unlabeled_weight * unlabeled_loss
            + risen * self.strong_weight * strong_loss
            + self.rotation_weight * rotation_loss
        )
        return loss, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_weak, key_u, key_turn, key_mix, key_probe = jax.random.split(key, 6)
        unlabeled_UHWC = batch["unlabeled_image"]
        rates = state.extra.get("rates")  # CTAugment's, which ends without a cutout
        strong_view = partial(self.views.strong, rates=rates, cutout=False)
        x_BHWC = strong_view(key_x, batch["image"])
        weak_UHWC = self.views.weak(key_weak, unlabeled_UHWC)
        strong = [
            strong_view(key_view, unlabeled_UHWC)
            for key_view in jax.random.split(key_u, self.num_strong)
        ]
        rotated = rotate(key_turn, strong[0])
        probs_UK, guess_UK = self.guess(state, weak_UHWC, key)
        label_BK = jax.nn.one_hot(batch["label"], guess_UK.shape[-1])
        mixed = mixup.mixup(
            key_mix,
            mixup.by_rows(x_BHWC, weak_UHWC, *strong),
            mixup.by_rows(label_BK, *[guess_UK] * (1 + self.num_strong)),
            self.alpha,
        )
        marginals = {"labeled": label_BK.mean(0), "unlabeled": probs_UK.mean(0)}
        marginals = {
            name: state.extra["marginals"][name].at[state.step % MEMORY].set(marginal_K)
            for name, marginal_K in marginals.items()
        }
        state, metrics = core.gradient_step(
            lambda params: self.loss(
                params, state, mixed, strong[0], guess_UK, rotated, key
            ),
            self.tx,
            state,
        )
        metrics |= mixup.quality(probs_UK, batch["unlabeled_label"])
        state = state.replace(extra={**state.extra, "marginals": marginals})
        state = ema_teacher.update(self, state)
        return ema_teacher.probe(self, state, batch, key_probe), metrics


def rotate(key: jax.Array, images_UHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each image by 0 to 3 quarter turns, drawn at random: (images, turns_U).

    Raises:
      UserError: the images are not square.
    """
    U, H, W, _ = images_UHWC.shape
    if H != W:
        raise UserError(
            f"Quarter turns need square images, not {H}x{W}: "
            "use augment.weak=crop, data.image_size, or a method without rotations."
        )
    turns_U = jax.random.randint(key, (U,), 0, 4)
    by_turns = [lambda image, k=k: jnp.rot90(image, k) for k in range(4)]
    rotated = jax.vmap(lambda k, image: jax.lax.switch(k, by_turns, image))
    return rotated(turns_U, images_UHWC), turns_U
