"""A generation of CReST against a transcription of USB's step in NumPy, in double
precision: microsoft/Semi-supervised-learning, semilearn/imb_algorithms/crest/utils.py
(`ProgressiveDistAlignEMAHook`) and semilearn/algorithms/fixmatch/fixmatch.py at
1ef4cbe."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.crest import CReST
from ssl_jax.augment.weak_strong import WeakStrong

LABELED_BK = np.array([[2.0, 0.0, 0.5], [0.0, 1.0, -1.0], [0.3, 0.1, 0.2]])
UNLABELED_UK = np.array(
    [[4.0, 0.0, 1.0], [0.0, 2.0, 1.0], [1.0, 0.0, 1.5], [1.0, 0.5, 0.0]]
)
LABELS, U = [0, 2, 1], 4
BATCH = toy.batch(np.float32(LABELED_BK), LABELS, np.float32(UNLABELED_UK))
GRANTED = np.array([30, 9, 3])


@pytest.mark.parametrize(("step", "t"), [(0, 1.0), (7, 0.5), (7, 0.0)])
def test_loss_update_and_mean_are_the_papers(step, t):
    views = WeakStrong(
        plain=lambda x: x, weak=lambda _, x: x, strong=lambda _, x, rates: x[..., ::-1]
    )
    algorithm = CReST(
        model=toy.Pixels(),
        tx=optax.sgd(0.1),
        views=views,
        granted_K=tuple(GRANTED),
        alignment=t,
        distribution_decay=0.9,
        threshold=0.7,
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    mean = np.array([0.2, 0.5, 0.3])
    given = {"mean_K": jnp.float32(mean)}
    state = state.replace(
        step=jnp.int32(step), extra={**state.extra, "thresholds": given}
    )
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, jax.random.key(1))

    probs = toy.softmax(UNLABELED_UK)
    mean = probs.mean(0) if step == 0 else 0.9 * mean + 0.1 * probs.mean(0)
    wanted = (GRANTED / GRANTED.sum()) ** t
    wanted = wanted / wanted.sum()
    probs = probs * (wanted + 1e-6) / (mean + 1e-6)
    probs = probs / probs.sum(1, keepdims=True)
    label, kept = probs.argmax(1), probs.max(1) >= 0.7
    assert 0 < kept.sum() < U

    def terms(params):
        labeled = np.log(toy.softmax(params["weight"] * LABELED_BK))
        strong = np.log(toy.softmax(params["weight"] * UNLABELED_UK[:, ::-1]))
        unlabeled = strong[np.arange(U), label] * kept
        return -labeled[np.arange(3), LABELS].mean(), -unlabeled.mean()

    params = {"weight": np.float64(1)}
    names = ("labeled_loss", "unlabeled_loss")
    ours = [float(metrics[name].compute()) for name in names]
    assert ours == pytest.approx(terms(params), rel=1e-5)
    expected = toy.descended(lambda p: sum(terms(p)), params, 0.1)
    np.testing.assert_allclose(after.params["weight"], expected["weight"], rtol=1e-5)
    thresholds = after.extra["thresholds"]
    np.testing.assert_allclose(thresholds["mean_K"], mean, rtol=1e-6)
