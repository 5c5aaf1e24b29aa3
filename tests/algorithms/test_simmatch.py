"""SimMatch against a transcription of its authors' step in NumPy, in double precision:
mingkai-zheng/SimMatch, models/simmatch.py (`forward`) and simmatch.py (`train`) at
f10254b, with the network for a teacher and a memory that moves by a part, as in USB."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.shared.embeddings import MARGINALS
from ssl_jax.algorithms.simmatch import SimMatch
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.models import Classifier

B, U, K, P, N = 4, 5, 3, 2, 6  # D = K: a toy's features are its pixels
RNG = np.random.default_rng(0)
LABELED_BK = RNG.normal(size=(B, K)).astype(np.float32).astype(float)
UNLABELED_UK = 2 * RNG.normal(size=(U, K)).astype(np.float32).astype(float)
LABELS = [0, 2, 1, 0]
INDEX = [3, 1, 5, 3]  # image 3 is drawn twice, in two views
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))
BATCH["index"] = jnp.array(INDEX)


def _build(**fields):
    views = WeakStrong(
        plain=lambda x: x, weak=lambda _, x: x, strong=lambda _, x, rates: x[..., ::-1]
    )
    fields = dict(projection=P, num_labeled=N, memory_after=0) | fields
    model = Classifier(toy.Pixels(), K)
    return SimMatch(model=model, tx=optax.sgd(0.1), views=views, **fields)


def _outputs(params, x):
    features = params["encoder"]["weight"] * x
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    first, second = params["projector"]["Dense_0"], params["projector"]["Dense_1"]
    y = features @ first["kernel"] + first["bias"]
    z = np.maximum(y, 0) @ second["kernel"] + second["bias"]
    return logits, z / np.sqrt((z**2).sum(1, keepdims=True))


def _targets(params, extra, used):
    logits, z = _outputs(params, UNLABELED_UK)
    probs = toy.softmax(logits)
    before = [row for row in extra["marginals_SK"] if row.any()]
    probs = probs / np.mean([*before, probs.mean(0)], 0)
    probs = probs / probs.sum(1, keepdims=True)
    bank, labels = extra["memory"]["embedding_NP"], extra["memory"]["label_N"]
    like = toy.softmax(z @ bank.T / 0.1)
    teacher = like * probs[:, labels]
    teacher = teacher / teacher.sum(1, keepdims=True)
    if used:
        aggregated = np.zeros((U, K))
        for n, label in enumerate(labels):
            aggregated[:, label] += like[:, n]
        probs = 0.9 * probs + 0.1 * aggregated
    return probs, teacher


def _loss(params, bank, probs, teacher, used):
    labeled = np.log(toy.softmax(_outputs(params, LABELED_BK)[0]))
    logits, z = _outputs(params, UNLABELED_UK[:, ::-1])
    mask = probs.max(1) >= 0.6
    unlabeled = -(np.log(toy.softmax(logits)) * probs).sum(1) * mask
    instance = -(teacher * np.log(toy.softmax(z @ bank.T / 0.1))).sum(1) * used
    terms = -labeled[np.arange(B), LABELS].mean(), unlabeled.mean(), instance.mean()
    return terms[0] + 2 * terms[1] + 0.5 * terms[2], (*terms, mask.mean())


@pytest.mark.parametrize(
    ("step", "after", "weak_gradient", "used"),
    [(1, 0, True, False), (2, 0, True, True), (40, 40, False, True)],
)
def test_loss_update_and_memory_are_the_authors(step, after, weak_gradient, used):
    """At step 1 the memory has not yet seen all of 6 images, 4 a step."""
    algorithm = _build(
        threshold=0.6,
        unlabeled_weight=2.0,
        instance_weight=0.5,
        memory_after=after,
        weak_gradient=weak_gradient,
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    # So that no image has an embedding of 0, behind so few units.
    state.params["projector"]["Dense_0"]["bias"] = jnp.full(K, 2.0)
    rng = np.random.default_rng(step)
    bank = rng.normal(size=(N, P))
    bank = bank / np.sqrt((bank**2).sum(1, keepdims=True))
    labels = np.array([1, 2, 0, 0, 2, 1])
    marginals = rng.dirichlet(np.ones(K), size=MARGINALS)
    marginals = np.where(np.arange(MARGINALS)[:, None] < step, marginals, 0)
    extra = {
        "memory": {"embedding_NP": bank, "label_N": labels},
        "marginals_SK": marginals,
    }
    given = jax.tree.map(
        lambda leaf: leaf.astype(np.int32 if leaf.dtype == int else np.float32), extra
    )
    state = state.replace(step=jnp.int32(step), extra={**state.extra, **given})
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, jax.random.key(1))

    extra["marginals_SK"][step % MARGINALS] = 0  # the step's own comes there
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    given = (bank, *_targets(params, extra, used), used)
    loss, terms = _loss(params, *given)
    names = ("labeled_loss", "unlabeled_loss", "instance_loss", "share_kept")
    ours = [float(metrics[name].compute()) for name in names]
    assert ours == pytest.approx(terms, rel=1e-5)
    assert float(metrics["loss"].compute()) == pytest.approx(loss, rel=1e-5)
    assert 0 < terms[-1] < 1  # some are kept

    expected = toy.descended(lambda p: _loss(p, *given)[0], params, 0.1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        after.params,
        expected,
    )
    _, z = _outputs(params, LABELED_BK)
    for n, rows in {1: [1], 3: [0, 3], 5: [2]}.items():
        moved = 0.7 * bank[n] + 0.3 * z[rows].mean(0)
        bank[n] = moved / np.linalg.norm(moved)
    memory = after.extra["memory"]
    np.testing.assert_allclose(memory["embedding_NP"], bank, atol=1e-5)
    np.testing.assert_array_equal(memory["label_N"], labels)
    seen = after.model_state["batch_stats"]["encoder"]["seen"]
    assert int(seen) == (B + 2 * U if weak_gradient else 100 * U + B + U)
