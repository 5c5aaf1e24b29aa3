"""Losses; every name says how it reduces. All compute in float32."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy_per_example(logits_BK: jax.Array, labels_B: jax.Array) -> jax.Array:
    """-log p(label), one number for each row: loss_B in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(
        logits_BK.astype(jnp.float32), labels_B
    )


def soft_cross_entropy_per_example(
    logits_BK: jax.Array, target_BK: jax.Array
) -> jax.Array:
    """-sum_k target_k log p_k, one number for each row: loss_B in nats."""
    return -(target_BK * jax.nn.log_softmax(logits_BK.astype(jnp.float32))).sum(-1)


def cross_entropy_of_labeled(logits_BK: jax.Array, labels_B: jax.Array) -> jax.Array:
    """The mean of -log p(label) over the rows with a label (>= 0); 0 without any."""
    known_B = labels_B >= 0
    loss_B = cross_entropy_per_example(logits_BK, jnp.maximum(labels_B, 0))
    return (loss_B * known_B).sum() / jnp.maximum(known_B.sum(), 1)


def cosine_similarity_per_example(x_BD: jax.Array, y_BD: jax.Array) -> jax.Array:
    """x . y / (|x| |y|) of each row, in [-1, 1]."""
    return (unit_length(x_BD) * unit_length(y_BD)).sum(-1)


def unit_length(x_BD: jax.Array) -> jax.Array:
    """x / |x| of each row; 1e-12 under the root as in deepmind-research/byol."""
    x_BD = x_BD.astype(jnp.float32)
    square_B1 = (x_BD**2).sum(-1, keepdims=True)
    return x_BD * jax.lax.rsqrt(jnp.maximum(square_B1, 1e-12))


def binary_cross_entropy_per_pixel(
    logits_BHWC: jax.Array, targets_BHWC: jax.Array
) -> jax.Array:
    """-t log p - (1 - t) log(1 - p) of p = sigmoid(logit) and targets t in [0, 1].

    As max(x, 0) - x t + log1p(exp(-|x|)): no overflow, and on a CPU twice as fast as
    optax's two log-sigmoids.
    """
    x, t = logits_BHWC.astype(jnp.float32), targets_BHWC
    return jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))


def sharpen(probs_UK: jax.Array, temperature: float) -> jax.Array:
    """p^(1/T), each row summing to 1: softmax(logits / T) of p = softmax(logits).

    MixMatch, arXiv:1905.02249, eq. 7; UDA, arXiv:1904.12848, section 2.4.
    """
    # As a softmax, because the power itself underflows for small T.
    return jax.nn.softmax(jnp.log(jnp.maximum(probs_UK, 1e-30)) / temperature)


def align(
    probs_UK: jax.Array, wanted_K: jax.Array | float, expected_K: jax.Array
) -> jax.Array:
    """Distribution alignment: Normalize(p * wanted / expected), rows summing to 1.

    ReMixMatch, arXiv:1911.09785, section 3.1; 1e-6 as in its code and USB's.

    Args:
      wanted_K: the classes' shares that predictions should have, p(y); 1 / K: equal.
      expected_K: the mean of predictions, p~(y).
    """
    ratio_K = (wanted_K + 1e-6) / (expected_K + 1e-6)
    scaled_UK = probs_UK * ratio_K[None]
    return scaled_UK / scaled_UK.sum(-1, keepdims=True)
