"""Schedule, optimizer chain, and what weight decay is on."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from ssl_jax.core import PyTree
from ssl_jax.core.ranges import Decay, Positive, Range, Weight, Whole
from ssl_jax.errors import UserError
from ssl_jax.train import depth


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The section `optimizer` of a phase, whose fields configs/base.py explains."""

    name: str
    learning_rate: Positive
    per_batch: Whole
    schedule: str
    warmup_steps: Whole
    momentum: Decay
    nesterov: bool
    weight_decay: Weight
    decay_end: Weight
    decay_on: str
    trust_coefficient: Positive
    clip_lr: bool
    layer_decay: Annotated[float, Range(0, 1, without="low")]
    layers: str


def schedule(
    name: str, *, learning_rate: float, warmup_steps: int, total_steps: int
) -> optax.Schedule:
    """Learning rate as a function of the step, 0 <= step < total_steps.

    "cosine_7_16" is FixMatch's learning_rate * cos(7 pi step / (16 total_steps))
    (arXiv:2001.07685, section 2.3), which ends at 0.195 of where it began. "cosine"
    ends at 0. "drops" is constant but for a factor of 0.2 from 97.5% of all steps on,
    and another from 98.75%: 50 and 25 of 2,000 epochs before the end (arXiv:2007.06346
    and htdt/self-supervised). "sixths" is constant but for a factor of 0.1 after each
    sixth of all steps: every 500 of 3,000 epochs, FixMatch's on ImageNet
    (google-research/fixmatch, imagenet/training.py). With warmup_steps the rate first
    rises linearly from 0, and the decay covers the steps that remain.

    Raises:
      UserError: unknown name, or a warm-up that leaves nothing to decay.
    """
    decay_steps = total_steps - warmup_steps
    if decay_steps <= 0:
        raise UserError(
            f"optimizer.warmup_steps={warmup_steps} must be less than "
            f"steps={total_steps}."
        )

    def cosine(arc):
        return lambda step: learning_rate * jnp.cos(arc * step / decay_steps)

    # The drops count from the end; fewer than 40 steps have none.
    drops = {decay_steps - total_steps // n: 0.2 for n in (40, 80)}
    sixths = {total_steps * n // 6 - warmup_steps: 0.1 for n in range(1, 6)}
    decays = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, decay_steps),
        "cosine_7_16": cosine(7 * jnp.pi / 16),
        "drops": optax.piecewise_constant_schedule(learning_rate, drops),
        "sixths": optax.piecewise_constant_schedule(learning_rate, sixths),
    }
    if name not in decays:
        raise UserError(
            f"optimizer.schedule={name!r} is unknown; choose from {sorted(decays)}."
        )
    if not warmup_steps:
        return decays[name]
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, decays[name]], [warmup_steps])


def scaled(learning_rate: float, per_batch: int, batch_size: int) -> float:
    """learning_rate * batch_size / per_batch (linear scaling rule, arXiv:1706.02677).

    Args:
      per_batch: the batch size that learning_rate is for; 0 leaves the rate as it is.
    """
    return learning_rate * batch_size / per_batch if per_batch else learning_rate


def decaying(
    weight_decay: float, decay_end: float, total_steps: int
) -> float | optax.Schedule:
    """The weight decay, or what it is at a step: it goes to `decay_end` by half a
    cosine, DINO's schedule (arXiv:2104.14294); it stays where that is 0, or the number
    of steps, which a range test has not.
    """
    if not decay_end or not total_steps:
        return weight_decay

    def at(step):
        arc = jnp.pi * step / total_steps
        return decay_end + (weight_decay - decay_end) * (1 + jnp.cos(arc)) / 2

    return at


def kernels_only(params: PyTree) -> PyTree:
    """True for the kernels; False for biases and BatchNorm scales."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def build(
    name: str,
    *,
    rate: optax.Schedule,
    momentum: float,
    nesterov: bool,
    weight_decay: float | optax.Schedule,
    decay_on: str,
    trust_coefficient: float,
    clip_lr: bool,
) -> optax.GradientTransformation:
    """SGD with momentum, Adam or AdamW (`momentum` is their beta_1, no `nesterov`), or
    LARS.

    Weight decay is L2 in the gradient, before the momentum, as in the FixMatch code
    and in PyTorch's optimizers; but AdamW's, which takes rate(step) times the decay off
    the weights (arXiv:1711.05101).

    Args:
      weight_decay: a number, or as a function of the step.
      decay_on: "kernels", as in the FixMatch code, or "all" parameters, as in
        PyTorch's optimizers unless told otherwise.
      trust_coefficient: eta of LARS, which alone uses it.
      clip_lr: whether LARS holds each layer's rate at or below `rate`: `_clipped`.

    Raises:
      UserError: unknown name or decay_on; clip_lr without LARS, or with it a decay of
        what it leaves to plain momentum.
    """
    masks = {"kernels": kernels_only, "all": None}
    if decay_on not in masks:
        raise UserError(
            f"optimizer.decay_on={decay_on!r} is unknown; choose from {[*masks]}."
        )
    if name == "lars" and decay_on != "kernels":
        raise UserError("LARS is for kernels: use optimizer.decay_on=kernels with it.")
    decay = optax.add_decayed_weights(weight_decay, mask=masks[decay_on])
    adapt = optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient)
    if clip_lr:
        if name != "lars":
            raise UserError(
                f"optimizer.clip_lr=True is LARS's: use clip_lr=False with {name!r}."
            )
        if callable(weight_decay):
            raise UserError(
                "optimizer.clip_lr=True holds the decay in each layer's rate: use "
                "optimizer.decay_end=0 with it."
            )
        decay = optax.identity()  # it is part of what follows
        adapt = _clipped(rate, weight_decay, trust_coefficient)
    optimizers = {
        "sgd": lambda: optax.sgd(rate, momentum=momentum, nesterov=nesterov),
        "adam": lambda: optax.adam(rate, b1=momentum),
        "adamw": lambda: optax.chain(
            optax.scale_by_adam(b1=momentum), decay, optax.scale_by_learning_rate(rate)
        ),
        "lars": lambda: _lars(rate, momentum, nesterov, adapt),
    }
    if name not in optimizers:
        raise UserError(
            f"optimizer.name={name!r} is unknown; choose from {sorted(optimizers)}."
        )
    if name == "adamw":  # which has it behind the moments
        return optimizers[name]()
    return optax.chain(decay, optimizers[name]())


def _lars(rate, momentum, nesterov, adapt) -> optax.GradientTransformation:
    """LARS (arXiv:1708.03888) as in BYOL's code, on gradients g that hold the decay.

    u = eta g |w| / |g|, or g where a norm is 0, and on all that is not a kernel
    m <- momentum m + u;  w <- w - rate(step) m

    optax.lars has the rate inside the momentum, so that a gradient keeps the rate of
    its own step: the same at a constant rate only.
    """
    return optax.chain(
        optax.masked(adapt, kernels_only),
        optax.trace(decay=momentum, nesterov=nesterov),
        optax.scale_by_learning_rate(rate),
    )


def _clipped(rate, weight_decay, eta) -> optax.GradientTransformation:
    """The u of solo-learn's LARS with its `clip_lr`, on gradients g without decay.

    u = (g + wd w) min(eta |w| / (|g| + wd |w|) / rate(step), 1), or g where a norm is 0

    The momentum is multiplied by rate(step), so a layer moves as by plain SGD at
    min(eta |w| / (|g| + wd |w|), rate(step)).
    """

    def update(grads, step, params):
        def one(g, w):
            norm_g, norm_w = jnp.linalg.norm(g), jnp.linalg.norm(w)
            trust = eta * norm_w / (norm_g + weight_decay * norm_w + 1e-8)
            # At a warm-up's rate of 0 the quotient is inf, and 1 is what remains.
            clipped = (g + weight_decay * w) * jnp.minimum(trust / rate(step), 1)
            return jnp.where((norm_g > 0) & (norm_w > 0), clipped, g)

        return jax.tree.map(one, grads, params), step + 1

    return optax.GradientTransformation(lambda _: jnp.zeros([], jnp.int32), update)


def of_phase(
    section: Optimizer, *, batch_size: int, total_steps: int
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """(learning rate as a function of the step, transformation) of a phase.

    Raises:
      UserError: unknown name, or a warm-up that leaves nothing to decay.
    """
    rate = schedule(
        section.schedule,
        learning_rate=scaled(section.learning_rate, section.per_batch, batch_size),
        warmup_steps=section.warmup_steps,
        total_steps=total_steps,
    )
    return rate, at_rate(section, rate, total_steps)


def at_rate(
    section: Optimizer, rate: optax.Schedule, total_steps: int = 0
) -> optax.GradientTransformation:
    """The transformation of a phase, at another learning rate than its schedule's.

    Args:
      total_steps: over which the weight decay goes to its end; 0: it stays.
    """
    chain = (
        *("name", "momentum", "nesterov", "decay_on"),
        *("trust_coefficient", "clip_lr"),
    )
    tx = build(
        rate=rate,
        weight_decay=decaying(section.weight_decay, section.decay_end, total_steps),
        **{name: getattr(section, name) for name in chain},
    )
    # Of the whole update: also of a decay that is none of the gradient's.
    return depth.by_layer(tx, section.layer_decay, section.layers)
