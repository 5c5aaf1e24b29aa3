"""Losses; every name says how it reduces. All compute in float32."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy_per_example(logits_BK: jax.Array, labels_B: jax.Array) -> jax.Array:
    """-log p(label), one number for each row: loss_B in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(
        logits_BK.astype(jnp.float32), labels_B
    )
