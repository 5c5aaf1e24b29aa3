"""CoMatch against a transcription of its authors' step in NumPy, in double precision:
salesforce/CoMatch, Train_CoMatch.py at 08b4cce, `train_one_epoch`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.comatch import CoMatch
from ssl_jax.algorithms.shared.embeddings import MARGINALS
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.models import Classifier

B, U, K, P, S = 3, 5, 3, 2, 2  # D = K: a toy's features are its pixels
RNG = np.random.default_rng(0)
LABELED_BK, UNLABELED_UK = RNG.normal(size=(B, K)), 3 * RNG.normal(size=(U, K))
LABELS = [0, 2, 1]
BATCH = toy.batch(
    LABELED_BK.astype(np.float32), LABELS, UNLABELED_UK.astype(np.float32)
)
LABELED_BK, UNLABELED_UK = (
    np.asarray(BATCH[name], float)[:, 0, 0] for name in ("image", "unlabeled_image")
)


def _strong(key, x, rates):
    """Each key has a turn of its own, which the transcription can ask for."""
    return jnp.roll(x, 1, -1) + jax.random.uniform(key)


def _build(**fields):
    views = WeakStrong(plain=lambda x: x, weak=lambda _, x: x, strong=_strong)
    fields = dict(projection=P, memory_steps=S, threshold=0.6) | fields
    model = Classifier(toy.Pixels(), K)
    return CoMatch(model=model, tx=optax.sgd(0.1), views=views, **fields)


def _outputs(params, x):
    features = params["encoder"]["weight"] * x
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    first, second = params["projector"]["Dense_0"], params["projector"]["Dense_1"]
    y = features @ first["kernel"] + first["bias"]
    z = np.where(y > 0, y, 0.1 * y) @ second["kernel"] + second["bias"]
    return logits, z / np.sqrt((z**2).sum(1, keepdims=True))


def _log_softmax(logits):
    return np.log(toy.softmax(logits))


def _pseudo_labels(params, extra, step):
    """(probs as they are remembered, probs as they are learned)."""
    logits, z = _outputs(params, UNLABELED_UK)
    probs = toy.softmax(logits)
    before = [row for row in extra["marginals_SK"] if row.any()]
    average = np.mean([*before, probs.mean(0)], 0)
    probs = probs / average
    probs = probs / probs.sum(1, keepdims=True)
    remembered = probs.copy()
    if step > S:
        near = np.exp(z @ extra["memory"]["embedding_SRP"].reshape(-1, P).T / 0.2)
        near = near / near.sum(1, keepdims=True)
        probs = 0.9 * probs + 0.1 * near @ extra["memory"]["probs_SRK"].reshape(-1, K)
    return remembered, probs


def _loss(params, probs, shifts):
    labeled = -_log_softmax(_outputs(params, LABELED_BK)[0])[np.arange(B), LABELS]
    views = [np.roll(UNLABELED_UK, 1, 1) + shift for shift in shifts]
    (logits, first), (_, second) = (_outputs(params, view) for view in views)
    mask = probs.max(1) >= 0.6
    unlabeled = -(_log_softmax(logits) * probs).sum(1) * mask
    similar = np.exp(first @ second.T / 0.2)
    similar = similar / similar.sum(1, keepdims=True)
    graph = probs @ probs.T
    np.fill_diagonal(graph, 1)
    graph = graph * (graph >= 0.5)
    neighbours = (graph > 0).sum(1).mean()
    graph = graph / graph.sum(1, keepdims=True)
    contrast = -(np.log(similar) * graph).sum(1)
    terms = labeled.mean(), unlabeled.mean(), contrast.mean()
    return terms[0] + 2 * terms[1] + 0.5 * terms[2], (*terms, neighbours, mask.mean())


@pytest.mark.parametrize(("step", "weak_gradient"), [(0, True), (2, True), (7, False)])
def test_loss_update_and_memory_are_the_authors(step, weak_gradient):
    algorithm = _build(
        unlabeled_weight=2.0,
        contrast_weight=0.5,
        contrast_threshold=0.5,
        weak_gradient=weak_gradient,
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    rng = np.random.default_rng(step)
    past = min(step, S)  # of the memory, and of the mean predictions, are there
    z = rng.normal(size=(S, U + B, P))
    memory = {
        "embedding_SRP": z / np.sqrt((z**2).sum(-1, keepdims=True)),
        "probs_SRK": rng.dirichlet(np.ones(K), size=(S, U + B)),
    }
    memory = {
        k: np.where(np.arange(S)[:, None, None] < past, v, 0) for k, v in memory.items()
    }
    marginals = rng.dirichlet(np.ones(K), size=MARGINALS)
    marginals = np.where(np.arange(MARGINALS)[:, None] < step, marginals, 0)
    extra = {"memory": memory, "marginals_SK": marginals}
    state = state.replace(
        step=jnp.int32(step),
        extra={**state.extra, **jax.tree.map(jnp.float32, extra)},
    )
    key = jax.random.key(1)
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, key)

    keys = jax.random.split(key, 5)[2:4]
    shifts = [float(jax.random.uniform(key)) for key in keys]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    remembered, probs = _pseudo_labels(params, extra, step)
    loss, terms = _loss(params, probs, shifts)
    names = ("labeled_loss", "unlabeled_loss", "contrast_loss", "neighbours")
    ours = [float(metrics[name].compute()) for name in (*names, "share_kept")]
    assert ours == pytest.approx(terms, rel=1e-5)
    assert float(metrics["loss"].compute()) == pytest.approx(loss, rel=1e-5)
    assert 0 < terms[-1] < 1 and 1 < terms[-2] < U  # some are kept, some are alike

    expected = toy.descended(lambda p: _loss(p, probs, shifts)[0], params, 0.1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        after.params,
        expected,
    )
    _, weak = _outputs(params, UNLABELED_UK)
    _, labeled = _outputs(params, LABELED_BK)
    memory["embedding_SRP"][step % S] = np.concatenate([weak, labeled])
    memory["probs_SRK"][step % S] = np.concatenate([remembered, np.eye(K)[LABELS]])
    for name, rows in memory.items():
        kept = after.extra["memory"][name]
        np.testing.assert_allclose(kept, rows, atol=1e-5, err_msg=name)
    seen = after.model_state["batch_stats"]["encoder"]["seen"]
    assert int(seen) == (B + 3 * U if weak_gradient else 100 * U + B + 2 * U)
