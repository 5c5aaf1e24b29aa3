"""A representation judged: each figure by its own rule, and of the test images."""

import numpy as np
import pytest

from ssl_jax.evaluate import probes, protocol
from ssl_jax.evaluate.probes import Probe
from ssl_jax.evaluate.protocol import Protocol

RNG = np.random.default_rng(0)
K = 3


def _features(rows):
    labels_N = RNG.integers(0, K, rows)
    features_ND = 2 * RNG.normal(size=(rows, K)) + 2 * np.eye(K)[labels_N] + 1
    return features_ND.astype(np.float32), labels_N


TRAIN, TEST = _features(60), _features(200)


def _by_neighbours(k, votes):
    """The share right, where votes(queries, bank) has a weight for each pair and k, of
    the nearest, count."""
    (bank_ND, labels_N), (queries_MD, truth_M) = TRAIN, TEST
    right = []
    for weights_N, truth in zip(votes(queries_MD, bank_ND), truth_M, strict=True):
        near = np.argsort(-weights_N)[:k]
        counted = 1 if k == 5 else weights_N[near]
        counts_K = np.zeros(K)
        np.add.at(counts_K, labels_N[near], counted)
        right.append(counts_K.argmax() == truth)
    return np.mean(right)


def _euclidean(queries_MD, bank_ND):
    return -((queries_MD[:, None] - bank_ND[None]) ** 2).sum(-1)


def _cosine(queries_MD, bank_ND):
    q, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries_MD, bank_ND))
    return np.exp(q @ b.T / 0.1)


def test_each_figure_is_by_its_own_rule_and_of_the_test_images(monkeypatch):
    """Fewer than 200 images vote as a whole; what is fitted is given no test image."""
    asked = {}

    def fit(name, chosen):
        def fitted(*data, **settings):
            asked[name] = data, settings
            weights_DK, bias_K = chosen * np.eye(K, dtype=np.float32), np.zeros(K)
            scaling = np.full(K, 1.0, np.float32), np.ones(K, np.float32)
            return Probe(weights_DK, bias_K, *scaling, chosen, {chosen: 0.5}, True)

        return fitted

    monkeypatch.setattr(probes, "sgd", fit("sgd", 0.2))
    monkeypatch.setattr(probes, "logistic_regression", fit("logistic", -0.3))
    how = Protocol(folds=4, epochs=7, batch_size=9, learning_rates=(0.2,), l2s=(0.1,))
    scores = protocol.judge(how, TRAIN, TEST, K, seed=6)

    knn = {name: scores[name]["accuracy"] for name in ("knn_5", "knn_200")}
    expected = {
        "knn_5": _by_neighbours(5, _euclidean),
        "knn_200": _by_neighbours(60, _cosine),
    }
    assert knn == pytest.approx(expected) and len(set(knn.values())) == 2
    features_MD, labels_M = TEST
    for name, said_M in (
        ("sgd", features_MD.argmax(1)),
        ("logistic", features_MD.argmin(1)),
    ):
        score, (data, settings) = scores[name], asked[name]
        assert score["accuracy"] == pytest.approx((said_M == labels_M).mean())
        assert data == TRAIN
        assert (settings["num_folds"], settings["seed"]) == (4, 6)
    assert scores["logistic"]["held_out"] == {"-0.3": 0.5}
