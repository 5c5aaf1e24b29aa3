"""What is learned from the features of an encoder that rests: along a graph of them,
and by a linear probe."""

import jax
import numpy as np
import pytest

import tiny
from configs import base
from ssl_jax.algorithms import label_spreading
from ssl_jax.evaluate import probes
from ssl_jax.train import program


def _config(algorithm, **hparams):
    config = tiny.config(algorithm, **hparams)
    config.model = base.model("mlp", features=(12,))
    config.data.num_unlabeled = 199  # some rows are padding
    return config


def _features(phase, state):
    """The encoder's, of the pool's images."""
    images = np.asarray(phase.feed.arrays["image"], np.float32).reshape(-1, 64)
    dense = state.params["encoder"]["Dense_0"]
    x_NP = (images - 127.5) / 127.5
    return np.maximum(x_NP @ np.asarray(dense["kernel"]) + dense["bias"][None], 0)


@pytest.mark.parametrize("kernel", ["knn", "rbf"])
def test_labels_flow_along_features_as_label_spreading_has_them(kernel):
    phase = tiny.build(_config("feature_spreading.FeatureSpreading", kernel=kernel))
    _, states, _ = tiny.train(phase, 20)
    batch = jax.device_get(phase.feed.arrays)
    there_N = batch["mask"]
    features_ND = _features(phase, states[0])[there_N]
    rows_ND = features_ND - features_ND.mean(axis=0)[None]  # SimpleShot's CL2N
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    # Half of a class's share of 208 rows.
    how = dict(kernel=kernel, n_neighbors=10, alpha=0.9, gamma=20.0)
    expected_NK = label_spreading.label_distributions(
        rows_ND, batch["label"][there_N], max_iter=20, tol=0.0, **how
    )
    said_NK = np.exp(phase.algorithm.transduce(states[-1]))[there_N]
    np.testing.assert_allclose(said_NK, expected_NK, atol=2e-5)
    # An image of the pool is new as well: its neighbours speak for it.
    new = {"image": batch["image"][there_N][:30]}
    inductive_BK = np.exp(phase.algorithm.predict(states[-1], new))
    inductive_BK /= inductive_BK.sum(axis=1, keepdims=True)
    expected_N = label_spreading.predict(
        rows_ND[:30], rows_ND, batch["label"][there_N], max_iter=20, tol=0.0, **how
    )
    np.testing.assert_array_equal(inductive_BK.argmax(axis=1), expected_N)


def test_a_probe_is_logistic_regression_on_the_labeled():
    config = _config("linear_probe.LinearProbe")
    adam = dict(name="adam", learning_rate=0.05, schedule="cosine", weight_decay=0.1)
    config.train.optimizer.update(adam)
    config.train.steps = 400
    phase = tiny.build(config)
    _, states, sums = tiny.train(phase, 400)
    batch, state = jax.device_get(phase.feed.arrays), states[-1]
    features_ND = _features(phase, state)
    granted_N = batch["mask"] & (batch["label"] >= 0)
    assert granted_N.sum() == 20
    probe = probes.logistic_regression(
        *(features_ND[granted_N], batch["label"][granted_N]),
        **dict(num_classes=10, l2s=(0.1,), num_folds=1, seed=0),
    )
    logits_NK = phase.algorithm.predict(state, {"image": batch["image"]})
    said_NK = jax.nn.log_softmax(logits_NK)  # what all have in common is free
    expected_NK = jax.nn.log_softmax(probes.logits(probe, features_ND))
    np.testing.assert_allclose(said_NK, expected_NK, atol=2e-3)
    assert float(sums[-1]["accuracy"].compute()) > 0.9


@pytest.mark.parametrize(
    "name", ["feature_spreading.FeatureSpreading", "linear_probe.LinearProbe"]
)
def test_features_of_a_part_at_a_time_are_those_of_all(name, monkeypatch):
    phase = tiny.build(_config(name))
    monkeypatch.setattr(program, "EVAL_BATCH", 48)
    with jax.set_mesh(phase.mesh):
        in_parts = program.initialise(phase)
        key, _ = jax.random.split(phase.key)
        at_once = phase.algorithm.init(key, phase.feed.arrays)
    assert jax.tree.structure(in_parts) == jax.tree.structure(at_once)
    for a, b in zip(*map(jax.tree.leaves, (in_parts, at_once)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
