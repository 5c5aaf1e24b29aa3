"""Schedule, optimizer chain, and the mask that leaves weight decay to kernels."""

import jax
import jax.numpy as jnp
import optax

from ssl_jax.core import PyTree, UserError


def schedule(
    name: str, *, learning_rate: float, warmup_steps: int, total_steps: int
) -> optax.Schedule:
    """Learning rate as a function of the step, 0 <= step < total_steps.

    "cosine_7_16" is FixMatch's learning_rate * cos(7 pi step / (16 total_steps))
    (arXiv:2001.07685, section 2.3), which ends at 0.195 of where it began. "cosine"
    ends at 0. With warmup_steps the rate first rises linearly from 0, and the decay
    covers the steps that remain.

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

    decays = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, decay_steps),
        "cosine_7_16": cosine(7 * jnp.pi / 16),
    }
    if name not in decays:
        raise UserError(
            f"optimizer.schedule={name!r} is unknown; choose from {sorted(decays)}."
        )
    if not warmup_steps:
        return decays[name]
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, decays[name]], [warmup_steps])


def kernels_only(params: PyTree) -> PyTree:
    """True for the kernels; False for biases and BatchNorm scales."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def build(
    name: str,
    *,
    rate: optax.Schedule,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> optax.GradientTransformation:
    """SGD with momentum, or Adam (`momentum` is its beta_1, `nesterov` is not used).

    Weight decay is L2 in the gradient, before the momentum, on kernels only, as in
    the FixMatch code and in PyTorch's optimizers: not the decoupled kind of AdamW.

    Raises:
      UserError: unknown name.
    """
    optimizers = {
        "sgd": lambda: optax.sgd(rate, momentum=momentum, nesterov=nesterov),
        "adam": lambda: optax.adam(rate, b1=momentum),
    }
    if name not in optimizers:
        raise UserError(
            f"optimizer.name={name!r} is unknown; choose from {sorted(optimizers)}."
        )
    decay = optax.add_decayed_weights(weight_decay, mask=kernels_only)
    return optax.chain(decay, optimizers[name]())
