"""DINO: all crops say what a moving average, centred and sharpened, says of large ones.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers",
arXiv:2104.14294; equation numbers and algorithm 1 are the paper's.

Departures: from the authors' code (facebookresearch/dino, main_dino.py and
vision_transformer.py at 7c446df), each large crop goes through student and teacher with
BatchNorm of its own, where the encoder has any, and theirs see both together; the
teacher has the student's stochastic depth, if any (`model.stochastic_depth`), where
theirs has none; its temperature rises with each step, not with each epoch; the last
layer learns at once, unless `freeze_steps` holds it, where theirs rests for an epoch;
while it is frozen its weight decay is taken back, but the optimizer's moments remember
it; a head that is not 2,048 wide begins with other weights (`Head`); what is judged is
the student, whose BatchNorm moments there are, where they take the teacher; and an
online probe, which they have not, learns beside it without sending a gradient back,
from the labels that are granted.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import Network, target_of
from ssl_jax.augment.multi_crop import MultiCrop
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    ema,
    gradient_step,
    init_state,
    ramp,
)
from ssl_jax.core.losses import soft_cross_entropy_per_example, unit_length
from ssl_jax.core.ranges import Count, Decay, Positive, Share, Weight, Whole
from ssl_jax.models import Classifier


class Directions(nn.Module):
    """A linear layer of which the columns' directions count alone."""

    out: int

    @nn.compact
    def __call__(self, x_BP: jax.Array) -> jax.Array:
        shape = (x_BP.shape[1], self.out)
        # As torch's linear layers begin, of which the code has it: up to 1 / sqrt(P).
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        kernel_PK = self.param("kernel", init, shape)
        return x_BP @ unit_length(kernel_PK.T).T


class Head(nn.Module):
    """Three layers with GELU and without BatchNorm, brought to length 1, and a last one
    whose columns have length 1: weight normalisation with a norm that stays 1.

    The first three begin at a standard deviation of 0.02 where they are 2,048 wide, as
    in the code. At 256 that would leave a bottleneck of 0.001, which one step of Adam's
    biases drowns: from then on it would say the same of all images. So it is 0.02 times
    the root of how much narrower the head is."""

    hidden: int
    bottleneck: int
    out: int

    @nn.compact
    def __call__(self, x_BD: jax.Array, *, train: bool) -> jax.Array:
        init = nn.initializers.normal(0.02 * (2048 / self.hidden) ** 0.5)
        y = x_BD
        for width in (self.hidden, self.hidden):
            y = nn.Dense(width, kernel_init=init)(y)
            y = nn.gelu(y, approximate=False)
        y = unit_length(nn.Dense(self.bottleneck, kernel_init=init)(y))
        return Directions(self.out, name="last")(y)


@dataclass(frozen=True, kw_only=True)
class DINO(Algorithm):
    """The teacher is in extra["target"], and what its outputs are centred by in
    extra["center_K"]."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "multi_crop"
    small: ClassVar[dict] = {
        "hidden": 16,
        "bottleneck": 16,
        "out": 24,
        "small_crops": 2,
        "freeze_steps": 2,
    }
    model: Classifier
    tx: optax.GradientTransformation
    views: MultiCrop
    total_steps: int
    hidden: Count = 2048  # of the head
    bottleneck: Count = 256
    out: Count = 65_536  # K
    small_crops: Whole = 8
    temperature: Positive = 0.1  # tau_s
    teacher_temperature: Positive = 0.04  # tau_t
    # of the teacher at first, which rises over so many steps, 30 epochs of theirs
    first_temperature: Positive = 0.04
    warmup_steps: Whole = 0
    momentum: Share = 0.996  # lambda, from which it rises to 1
    center_momentum: Decay = 0.9  # m of eq. 4
    clip: Weight = 3.0  # greatest norm of each parameter's gradient; 0: any
    freeze_steps: Whole = (
        0  # in which the last layer stays as it is: an epoch of theirs
    )

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            projector=Head(self.hidden, self.bottleneck, self.out),
            num_classes=self.model.num_classes,
        )

    @property
    def clipped(self) -> optax.GradientTransformation:
        """The optimizer, behind `clip`."""
        return optax.chain(_clip_each(self.clip), self.tx) if self.clip else self.tx

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        state = init_state(self.network, self.clipped, key, x_BHWC, initial)
        center_K = jnp.zeros(self.out)
        return state.replace(
            extra={"target": target_of(state.params), "center_K": center_K}
        )

    def sharpness(self, step: jax.Array) -> jax.Array:
        """tau_t, which rises linearly at first."""
        rise = self.teacher_temperature - self.first_temperature
        return self.first_temperature + rise * ramp(step, self.warmup_steps)

    def objective(self, params, model_state, extra, crops, key, step):
        """(loss_B of eq. 3, the teacher's two outputs, outputs of the student's large
        crops, model_state)."""
        outputs, small, moved = joint_embedding.outputs_of_crops(
            self.network, params, model_state, crops, key
        )
        said = [output.projection_BP for output in (*outputs, *small)]
        taught = joint_embedding.targets_of(
            self.network, extra["target"], model_state, crops[:2], key, after=3
        )
        center_K = jax.lax.stop_gradient(extra["center_K"])
        losses = []
        for i, target_BK in enumerate(taught):
            centred_BK = target_BK - center_K[None]
            target_BK = jax.nn.softmax(centred_BK / self.sharpness(step))
            losses += [
                soft_cross_entropy_per_example(student_BK / self.temperature, target_BK)
                for v, student_BK in enumerate(said)
                if v != i
            ]
        return sum(losses) / len(losses), taught, outputs, moved

    def loss(self, params, model_state, extra, crops, labels_B, key, step):
        """The objective, the online probe's loss, and what shows a collapse; and what
        the teacher said on average."""
        fixed = jax.lax.stop_gradient(params)
        params = _with_last(params, fixed, step < self.freeze_steps)
        loss_B, taught, outputs, model_state = self.objective(
            params, model_state, extra, crops, key, step
        )
        probe_loss, metrics = joint_embedding.judged(loss_B, outputs, labels_B)
        mean_K = sum(target_BK.mean(0) for target_BK in taught) / len(taught)
        return loss_B.mean() + probe_loss, (model_state, metrics, mean_K)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        crops = joint_embedding.crops_of(self.views, batch, key, self.small_crops)
        step, before, extra = state.step, state.params, state.extra
        state, metrics, mean_K = gradient_step(
            lambda params: self.loss(
                params, state.model_state, extra, crops, batch["label"], key, step
            ),
            self.clipped,
            state,
        )
        params = _with_last(state.params, before, step < self.freeze_steps)
        momentum = joint_embedding.to_one(self.momentum, step, self.total_steps)
        extra = {
            "target": ema(extra["target"], target_of(params), momentum),
            "center_K": ema(extra["center_K"], mean_K, self.center_momentum),  # eq. 4
        }
        return state.replace(params=params, extra=extra), metrics

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """The objective on held-out images, on their own batch's statistics; and the
        effective rank of their features."""
        crops = joint_embedding.crops_of(self.views, batch, key, self.small_crops)
        loss_B, _, _, _ = self.objective(
            *(state.params, state.model_state, state.extra, crops, key, state.step)
        )
        return joint_embedding.held_out(
            loss_B, self.features(state, batch), batch["mask"]
        )


def _with_last(params, others, so):
    """`params` with the last layer of `others`, if `so`."""
    own, other = (tree["projector"]["last"] for tree in (params, others))
    last = jax.tree.map(lambda a, b: jnp.where(so, b, a), own, other)
    return params | {"projector": params["projector"] | {"last": last}}


def _clip_each(most: float) -> optax.GradientTransformation:
    """Each parameter's gradient is at most so long, as in the code's utils.py."""

    def one(grad):
        return grad * jnp.minimum(most / (jnp.linalg.norm(grad) + 1e-6), 1)

    return optax.stateless(lambda grads, _: jax.tree.map(one, grads))
