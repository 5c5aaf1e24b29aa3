"""Padded batches: no padding is measured, and what is said is of each image once."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax import core
from ssl_jax.data.placement import padded_batches
from ssl_jax.evaluate import batches

N, K = 21, 3
RNG = np.random.default_rng(0)
IMAGES_NHWC = RNG.integers(0, 256, (N, 1, 1, K)).astype(np.uint8)
LABELS_N = RNG.integers(0, K, N).astype(np.int32)
LOGITS_NK = IMAGES_NHWC.reshape(N, K) / np.float32(50)


def _logits(state, batch):
    """An image's pixels, times what the state says."""
    return state * batch["image"].reshape(-1, K).astype(jnp.float32) / 50


def _drawn(state, batch, key):
    """A number that each batch draws anew, and the mean of the first pixel."""
    drawn_B = jnp.full(len(batch["label"]), jax.random.uniform(key))
    first_B = batch["image"][:, 0, 0, 0].astype(jnp.float32)
    return {
        "drawn": core.mean(drawn_B, batch["mask"]),
        "first": core.mean(first_B, batch["mask"]),
    }


def test_padding_counts_nowhere():
    mesh = core.make_mesh()
    padded = padded_batches(IMAGES_NHWC, LABELS_N, batch=8, num_devices=mesh.size)
    assert sum(len(batch["label"]) for batch in padded) == 24
    method = SimpleNamespace(predict=_logits, features=_logits, eval_step=_drawn)
    rows, key = NamedSharding(mesh, P("data")), jax.random.key(0)
    evaluation = batches.compile_evaluation(method, rows, key)
    state = jnp.float32(2)

    metrics, counts_KK = jax.device_get(evaluation.sums(state, padded))
    values = {name: of.compute() for name, of in metrics.items()}
    logits_NK = 2 * LOGITS_NK.astype(np.float64)
    right_N = logits_NK.argmax(1) == LABELS_N
    assert 0.1 < right_N.mean() < 0.9
    assert values["accuracy"] == pytest.approx(right_N.mean())
    log_NK = logits_NK - np.log(np.exp(logits_NK).sum(1, keepdims=True))
    loss = -log_NK[np.arange(N), LABELS_N].mean()
    assert values["loss"] == pytest.approx(loss, rel=1e-5)
    assert counts_KK.sum() == N and np.trace(counts_KK) == right_N.sum()
    assert values["first"] == pytest.approx(IMAGES_NHWC[:, 0, 0, 0].mean())
    drawn_3 = [float(jax.random.uniform(one)) for one in jax.random.split(key, 3)]
    assert values["drawn"] == pytest.approx(np.dot(drawn_3, [8, 8, 5]) / N, rel=1e-5)

    said_NK, said_N = evaluation.said(state, padded)
    np.testing.assert_allclose(said_NK, logits_NK, rtol=1e-6)
    np.testing.assert_array_equal(said_N, LABELS_N)
    features_ND, labels_N = batches.compile_features(method, mesh)(state, padded)
    np.testing.assert_allclose(features_ND, logits_NK, rtol=1e-6)
    np.testing.assert_array_equal(labels_N, LABELS_N)


def test_padding_is_other_images():
    """Which a batch's statistics may take for images, and not one of them again and
    again."""
    last = padded_batches(IMAGES_NHWC, LABELS_N, batch=8, num_devices=1)[-1]
    assert last["mask"].tolist() == [True] * 5 + [False] * 3
    np.testing.assert_array_equal(last["image"][5:], IMAGES_NHWC[:3])
    np.testing.assert_array_equal(last["label"][5:], LABELS_N[:3])
