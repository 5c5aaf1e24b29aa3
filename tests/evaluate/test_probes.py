"""Probes against scikit-learn and NumPy, and what the hyper-parameter is chosen by."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ssl_jax.data import sources, splits
from ssl_jax.errors import UserError
from ssl_jax.evaluate import probes, protocol


def digits(num_labels, seed=0):
    """(features_ND, labels_N, test_features_MD, test_labels_M): pixels."""
    data = sources.load("digits")
    labeled = splits.split(data, num_labels=num_labels, seed=seed).labeled
    flat = [
        images.reshape(len(images), -1).astype(np.float32)
        for images in (data.images_NHWC[labeled], data.test_images_MHWC)
    ]
    return flat[0], data.labels_N[labeled], flat[1], data.test_labels_M


def noisy(seed=0, rows=60, features=30):
    """Three classes with so many features that every weak penalty overfits."""
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, 3, rows)
    features_ND = rng.normal(size=(rows, features)) * 5 + 2
    features_ND[:, :3] += 4 * np.eye(3)[labels_N]
    return features_ND.astype(np.float32), labels_N


def standardised(features_ND):
    features_ND = features_ND.astype(np.float64)
    return (features_ND - features_ND.mean(axis=0)) / features_ND.std(axis=0)


def accuracy(probe, features_ND, labels_N):
    return (probes.logits(probe, features_ND).argmax(axis=1) == labels_N).mean()


PROTOCOL = protocol.Protocol()


def sgd(*data, **given):
    """By the protocol's defaults, but for what is given."""
    default = dict(
        learning_rates=PROTOCOL.learning_rates,
        epochs=PROTOCOL.epochs,
        batch_size=PROTOCOL.batch_size,
        num_folds=PROTOCOL.folds,
    )
    return probes.sgd(*data, **(default | given))


def logistic(*data, **given):
    default = dict(l2s=PROTOCOL.l2s, num_folds=PROTOCOL.folds)
    return probes.logistic_regression(*data, **(default | given))


def reference_sgd(X_ND, labels_N, rate, *, steps, classes=3, batches=None):
    """Nesterov momentum in float64, on all rows unless told which a step has."""
    X_NE = np.c_[X_ND, np.ones(len(X_ND))]
    weights_EK = np.zeros((X_NE.shape[1], classes))
    trace_EK = np.zeros_like(weights_EK)
    for t in range(steps):
        rows_B = np.arange(len(X_ND)) if batches is None else batches[t]
        X_BE, labels_B = X_NE[rows_B], labels_N[rows_B]
        p_BK = np.exp(X_BE @ weights_EK)
        p_BK /= p_BK.sum(axis=1, keepdims=True)
        grad_EK = X_BE.T @ (p_BK - np.eye(classes)[labels_B]) / len(X_BE)
        trace_EK = grad_EK + 0.9 * trace_EK
        now = rate * 0.5 * (1 + np.cos(np.pi * t / steps))
        weights_EK -= now * (grad_EK + 0.9 * trace_EK)
    return weights_EK


def test_folds_deal_out_each_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [20, 13, 4]))
    fold = probes.folds(labels, 5, seed=3)
    counts = np.array([np.bincount(fold[labels == c], minlength=5) for c in range(3)])
    assert np.ptp(counts, axis=1).max() <= 1
    assert np.ptp(counts.sum(axis=0)) <= 1
    np.testing.assert_array_equal(fold, probes.folds(labels, 5, seed=3))
    assert (fold != probes.folds(labels, 5, seed=4)).any()


def test_logistic_regression_is_sklearns():
    """With 4 images a class, and constant pixels, at the strength that it chose."""
    features, labels, test_features, test_labels = digits(40)
    probe = logistic(features, labels, num_classes=10, seed=0)
    assert probe.converged
    expected = LogisticRegression(
        C=1 / (len(labels) * probe.chosen), tol=1e-8, max_iter=5000
    ).fit((features.astype(np.float64) - probe.mean_D) / probe.std_D, labels)
    np.testing.assert_allclose(probe.weights_DK, expected.coef_.T, atol=1e-3)
    test = (test_features.astype(np.float64) - probe.mean_D) / probe.std_D
    probabilities = jax.nn.softmax(probes.logits(probe, test_features))
    np.testing.assert_allclose(probabilities, expected.predict_proba(test), atol=1e-3)
    assert accuracy(probe, test_features, test_labels) > 0.77


def test_l2_is_chosen_by_what_is_held_out():
    features, labels = noisy()
    l2s = (1e-2, 1e-1, 1.0)
    probe = logistic(features, labels, num_classes=3, l2s=l2s, seed=5, tolerance=1e-6)
    fold, X = probes.folds(labels, 5, seed=5), standardised(features)
    for l2 in l2s:
        scores, fits = [], []
        for f in range(5):
            kept = fold != f
            model = LogisticRegression(C=1 / (kept.sum() * l2), tol=1e-8, max_iter=5000)
            model.fit(X[kept], labels[kept])
            scores.append(model.score(X[~kept], labels[~kept]))
            fits.append(model.score(X[kept], labels[kept]))
        assert probe.held_out[l2] == pytest.approx(np.mean(scores))
        if l2 == l2s[0]:
            assert np.mean(fits) == 1  # what it was fit on would choose this one
    assert probe.held_out[probe.chosen] == max(probe.held_out.values())
    assert probe.chosen != l2s[0]


def test_sgd_is_byols_and_chooses_by_what_is_held_out():
    features, labels = noisy(rows=60)
    rates = (40.0, 0.4, 0.004)  # times 60 / 1024
    given = {"num_classes": 3, "learning_rates": rates, "epochs": 30}
    probe = sgd(features, labels, seed=2, **given)
    fold, X = probes.folds(labels, 5, seed=2), standardised(features)
    for rate in rates:
        scores = []
        for f in range(5):
            kept = fold != f
            weights_EK = reference_sgd(
                X[kept], labels[kept], rate * 60 / 1024, steps=30
            )
            logits = np.c_[X, np.ones(60)][~kept] @ weights_EK
            scores.append((logits.argmax(axis=1) == labels[~kept]).mean())
        assert probe.held_out[rate] == pytest.approx(np.mean(scores))
    assert probe.held_out[probe.chosen] == max(probe.held_out.values())
    assert len(set(probe.held_out.values())) > 1
    expected_EK = reference_sgd(X, labels, probe.chosen * 60 / 1024, steps=30)
    np.testing.assert_allclose(probe.weights_DK, expected_EK[:-1], atol=1e-4)
    np.testing.assert_allclose(probe.bias_K, expected_EK[-1], atol=1e-4)


def test_sgd_with_batches_is_reproducible_by_its_seed():
    features, labels = noisy(rows=70)
    given = {"num_classes": 3, "epochs": 5, "batch_size": 16, "num_folds": 1}
    first, again, other = (
        sgd(features, labels, seed=seed, **given) for seed in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (np.asarray(first.weights_DK) != np.asarray(other.weights_DK)).any()


def test_sgd_with_batches_shuffles_each_epoch_and_drops_what_is_left_of_it():
    features, labels = noisy(rows=70)
    given = {"num_classes": 3, "epochs": 5, "batch_size": 16, "num_folds": 1}
    probe = sgd(features, labels, seed=1, learning_rates=(2.0,), **given)
    orders = [
        np.asarray(jax.random.permutation(key, 70))[:64].reshape(4, 16)
        for key in jax.random.split(jax.random.key(1), 5)
    ]
    expected_EK = reference_sgd(
        *(standardised(features), labels, 2.0 * 16 / 1024),
        **dict(steps=5 * 4, batches=np.concatenate(orders)),
    )
    np.testing.assert_allclose(probe.weights_DK, expected_EK[:-1], atol=1e-5)


def test_sgd_on_forty_labels_of_digits():
    features, labels, test_features, test_labels = digits(40)
    probe = sgd(features, labels, num_classes=10, seed=0)
    assert accuracy(probe, test_features, test_labels) > 0.72


def test_a_fit_that_was_cut_short_says_so():
    features, labels = noisy()
    l2s = (1e-3, 1e-4, 1e-5)  # as many as above: compiled once
    probe = logistic(features, labels, num_classes=3, l2s=l2s, max_iterations=3, seed=0)
    assert probe.converged is False


def test_features_are_centered_before_they_are_narrowed():
    """float32 holds 1.7e9 to the nearest 128."""
    features, labels = noisy()[:2]
    near, far = (
        probes._prepare(features.astype(np.float64) + offset, labels, 3, 2, 0)
        for offset in (0, 1.7e9)
    )
    np.testing.assert_allclose(far.X_ND, near.X_ND, atol=1e-5)


def test_what_does_not_fit_is_said():
    features, labels = noisy()
    given = {"num_classes": 3, "seed": 0}
    with pytest.raises(UserError, match=r"\(60, 30\).*\(59,\)"):
        sgd(features, labels[1:], **given)
    with pytest.raises(UserError, match="from 0 to 2.*0 to 1"):
        sgd(features, labels, num_classes=2, seed=0)
    with pytest.raises(UserError, match="num_folds=61 with 60"):
        logistic(features, labels, num_folds=61, **given)
    features[3, 7] = np.nan
    with pytest.raises(UserError, match="1 of 30 features are not finite"):
        sgd(features, labels, **given)
