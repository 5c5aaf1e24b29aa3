"""DASO against a transcription of its authors' step in NumPy, in double precision:
ytaek-oh/daso, lib/models/daso_model.py (`forward_train`) and feature_queue.py at
3541a6c."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.daso import DASO
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.models import Classifier

B, U, K, L = 6, 7, 3, 3  # D = K: a toy's features are its pixels
RNG = np.random.default_rng(4)
LABELED_BK = RNG.normal(size=(B, K)).astype(np.float32).astype(float)
UNLABELED_UK = RNG.normal(size=(U, K)).astype(np.float32).astype(float)
KERNEL_DK = RNG.normal(size=(K, K)).astype(np.float32).astype(float)
LABELS = [0, 0, 1, 0, 0, 1]  # of class 0 there are more than its queue has room for
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))


def _build(**fields):
    views = WeakStrong(
        plain=lambda x: x, weak=lambda _, x: x, strong=lambda _, x, rates: x[..., ::-1]
    )
    return DASO(
        model=Classifier(toy.Pixels(), K),
        tx=optax.sgd(0.1),
        views=views,
        queue=L,
        proto_temperature=0.5,
        count_every=10,
        assign_weight=0.5,
        threshold=0.45,
        **fields,
    )


def _outputs(params, x):
    features = params["encoder"]["weight"] * x
    return features @ params["head"]["kernel"] + params["head"]["bias"], features


def _similar(features, prototypes):
    unit = [
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, prototypes)
    ]
    return unit[0] @ unit[1].T / 0.5


@pytest.mark.parametrize(
    ("step", "warmup_steps", "weak_gradient"),
    [(3, 4, True), (4, 4, True), (19, 0, False)],
)
def test_loss_update_and_memory_are_the_authors(step, warmup_steps, weak_gradient):
    algorithm = _build(warmup_steps=warmup_steps, weak_gradient=weak_gradient)
    state = algorithm.init(jax.random.key(0), BATCH)
    state.params["head"]["kernel"] = jnp.float32(KERNEL_DK)
    rng = np.random.default_rng(step)
    queues = [rng.normal(size=(n, K)) for n in (3, 1, 2)]
    bank = np.zeros((K, L, K))
    for k, queue in enumerate(queues):
        bank[k, : len(queue)] = queue
    counts = np.array([30.0, 8.0, 1.0])
    share = counts ** (1 / 1.5)
    share = share / share.max()
    ema = {"encoder": {"weight": jnp.float32(0.8)}, "head": state.params["head"]}
    thresholds = {
        "counted_K": jnp.float32(counts),
        "share_K": jnp.float32(share),
        "features_KLD": jnp.float32(bank),
        "seen_K": jnp.array([3, 1, 2]),
    }
    extra = {**state.extra, "ema": ema, "thresholds": thresholds}
    state = state.replace(step=jnp.int32(step), extra=extra)
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, jax.random.key(1))

    for k in range(K):  # of the teacher's features
        ours = 0.8 * LABELED_BK[np.array(LABELS) == k]
        queues[k] = np.concatenate([queues[k], ours])[-L:]
    prototypes = np.array([queue.mean(0) for queue in queues])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    weak, features = _outputs(params, UNLABELED_UK)
    probs, like = toy.softmax(weak), toy.softmax(_similar(features, prototypes))
    used = step >= warmup_steps
    if used:
        v = share[probs.argmax(1)][:, None]
        probs = (1 - v) * probs + v * like
    label, kept = probs.argmax(1), probs.max(1) >= 0.45
    assert 0 < kept.sum() < U

    def terms(params):
        labeled = np.log(toy.softmax(_outputs(params, LABELED_BK)[0]))
        logits, features = _outputs(params, UNLABELED_UK[:, ::-1])
        unlabeled = np.log(toy.softmax(logits))[np.arange(U), label] * kept
        assign = (like * np.log(toy.softmax(_similar(features, prototypes)))).sum(1)
        return (
            -labeled[np.arange(B), LABELS].mean(),
            -unlabeled.mean(),
            -assign.mean() * used,
        )

    names = ("labeled_loss", "unlabeled_loss", "assign_loss")
    ours = [float(metrics[name].compute()) for name in names]
    assert ours == pytest.approx(terms(params), rel=1e-5)

    def loss(params):
        labeled, unlabeled, assign = terms(params)
        return labeled + unlabeled + 0.5 * assign

    expected = toy.descended(loss, params, 0.1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        after.params,
        expected,
    )
    memory = after.extra["thresholds"]
    for k, queue in enumerate(queues):
        there = sorted(map(tuple, np.asarray(memory["features_KLD"])[k, : len(queue)]))
        np.testing.assert_allclose(there, sorted(map(tuple, queue)), rtol=1e-5)
    assert memory["seen_K"].tolist() == [7, 3, 2]
    counts = counts + np.bincount(label, minlength=K)
    if step == 19:  # they are counted
        share, counts = counts ** (1 / 1.5), np.zeros(K)
        share = share / share.max()
    np.testing.assert_allclose(memory["counted_K"], counts)
    np.testing.assert_allclose(memory["share_K"], share, rtol=1e-5)


def test_prototypes_are_of_a_teacher_that_is_not_in_training():
    """By BatchNorm's averages, at first 0 and 1, and not by the step's few images."""
    algorithm = dataclasses.replace(_build(), model=Classifier(toy.Normalised(), K))
    state = algorithm.init(jax.random.key(0), BATCH)
    remembered = jax.jit(algorithm.remembered)
    memory = remembered(state, BATCH["image"], BATCH["label"])
    kept_2D = np.asarray(memory["features_KLD"])[1, :2]
    np.testing.assert_allclose(kept_2D, LABELED_BK[[2, 5]], rtol=1e-4)
