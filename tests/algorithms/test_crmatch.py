"""CRMatch against a transcription of USB's step in NumPy, in double precision:
microsoft/Semi-supervised-learning, semilearn/algorithms/crmatch/crmatch.py
(`train_step`) at 1ef4cbe, with images of 2x2 pixels, which can be turned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toy
from ssl_jax.algorithms.crmatch import TURNS, CRMatch
from ssl_jax.algorithms.remixmatch import rotate
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.models import Classifier

B, U, K, D = 3, 8, 3, 4  # a toy's features are its pixels
RNG = np.random.default_rng(3)
LABELED_BHW, UNLABELED_UHW = (
    2 * RNG.normal(size=(n, 2, 2)).astype(np.float32).astype(float) for n in (B, U)
)
LABELS = [0, 2, 1]
BATCH = toy.batch(np.float32(LABELED_BHW), LABELS, np.float32(UNLABELED_UHW))
BATCH |= {
    name: jnp.float32(of)[..., None]
    for name, of in (("image", LABELED_BHW), ("unlabeled_image", UNLABELED_UHW))
}


def _dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def _outputs(params, images):
    """(logits, of turns, embedding)."""
    y = params["encoder"]["weight"] * images.reshape(len(images), D)
    turns = params["rotation_head"]
    hidden = np.maximum(_dense(turns["Dense_0"], y), 0)
    return (
        _dense(params["head"], y),
        _dense(turns["Dense_1"], hidden),
        _dense(params["distance_head"]["Dense_0"], y),
    )


@pytest.mark.parametrize("weak_gradient", [True, False])
def test_loss_and_update_are_usbs(weak_gradient):
    views = WeakStrong(
        plain=lambda x: x,
        weak=lambda _, x: x,
        strong=lambda _, x, rates: x[..., ::-1, :] + 0.5,
    )
    algorithm = CRMatch(
        model=Classifier(toy.Pixels(), K),
        tx=optax.sgd(0.1),
        views=views,
        threshold=0.7,
        unlabeled_weight=2.0,
        distance_weight=0.5,
        rotation_weight=0.25,
        weak_gradient=weak_gradient,
    )
    state = algorithm.init(jax.random.key(0), BATCH)
    key = jax.random.key(1)
    after, metrics = jax.jit(algorithm.train_step)(state, BATCH, key)

    drawn = jax.random.fold_in(key, TURNS)
    turns = np.asarray(rotate(drawn, jnp.zeros((U, 2, 2, 1)))[1])
    assert len(set(turns.tolist())) > 2
    turned = np.stack(
        [np.rot90(image, n) for image, n in zip(UNLABELED_UHW, turns, strict=True)]
    )
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    constant = _outputs(params, UNLABELED_UHW)
    probs = toy.softmax(constant[0])
    label, kept = probs.argmax(1), probs.max(1) >= 0.7
    assert 0 < kept.sum() < U

    def terms(params):
        labeled = np.log(toy.softmax(_outputs(params, LABELED_BHW)[0]))
        logits, _, strong = _outputs(params, UNLABELED_UHW[:, :, ::-1] + 0.5)
        unlabeled = np.log(toy.softmax(logits))[np.arange(U), label] * kept
        weak = _outputs(params, UNLABELED_UHW)[2] if weak_gradient else constant[2]
        norms = [np.linalg.norm(of, axis=1) for of in (strong, weak)]
        cosine = (strong * weak).sum(1) / np.prod(norms, 0)
        rotation = np.log(toy.softmax(_outputs(params, turned)[1]))
        return (
            -labeled[np.arange(B), LABELS].mean(),
            -unlabeled.mean(),
            (np.maximum(cosine, 0) * kept).mean(),
            -rotation[np.arange(U), turns].mean(),
        )

    names = ("labeled_loss", "unlabeled_loss", "distance_loss", "rotation_loss")
    ours = [float(metrics[name].compute()) for name in names]
    assert ours == pytest.approx(terms(params), rel=1e-5) and ours[2] > 0

    def loss(params):
        return np.dot(terms(params), (1, 2, 0.5, 0.25))

    assert float(metrics["loss"].compute()) == pytest.approx(loss(params), rel=1e-5)
    expected = toy.descended(loss, params, 0.1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        after.params,
        expected,
    )
    seen = after.model_state["batch_stats"]["encoder"]["seen"]
    assert int(seen) == (B + 3 * U if weak_gradient else 100 * U + B + 2 * U)
