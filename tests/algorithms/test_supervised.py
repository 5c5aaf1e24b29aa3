"""Cross-entropy on the labeled images alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.supervised import Supervised
from ssl_jax.augment import weak_strong


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_label_is_spread_over_all_classes(smoothing):
    """optax has the same by smoothed one-hot labels."""
    method = Supervised(
        model=toy.Pixels(),
        tx=optax.sgd(0.1),
        views=weak_strong.build(),
        label_smoothing=smoothing,
    )
    logits_BK = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]], np.float32)
    labels_B = jnp.array([0, 1])
    images_BHWC = jnp.asarray(logits_BK)[:, None, None]
    variables = method.model.init(jax.random.key(0), images_BHWC, train=False)
    params, model_state = variables["params"], {"batch_stats": variables["batch_stats"]}
    loss, _ = method.loss(params, model_state, images_BHWC, labels_B, jax.random.key(1))
    target_BK = optax.smooth_labels(jax.nn.one_hot(labels_B, 3), smoothing)
    wanted = optax.softmax_cross_entropy(jnp.asarray(logits_BK), target_BK).mean()
    assert loss == pytest.approx(float(wanted), rel=1e-6)
