"""What is done to predicted distributions before they become targets."""

import jax
import jax.numpy as jnp


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
