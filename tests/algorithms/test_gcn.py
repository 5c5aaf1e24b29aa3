"""GCN, GAT, APPNP and SGC against dense transcriptions of the papers in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssl_jax import algorithms, models
from ssl_jax.algorithms.gcn import GCN
from ssl_jax.errors import UserError
from ssl_jax.graphs import sparse
from ssl_jax.models.gat import attention

KEY = jax.random.key(0)
# A path 0-1-2-3 with the chord 0-2, and node 4 alone.
EDGES = ([0, 1, 2, 0], [1, 2, 3, 2])
A_NN = np.zeros((5, 5))
A_NN[EDGES] = A_NN[EDGES[::-1]] = 1
DEGREE_N = A_NN.sum(1) + 1
A_HAT_NN = (A_NN + np.eye(5)) / np.sqrt(DEGREE_N[:, None] * DEGREE_N[None])
X_ND = np.random.default_rng(0).uniform(size=(5, 6)) * ([[1], [1], [0], [1], [1]])
NODES = sparse.Graph(
    sparse.sparse(*np.nonzero(X_ND), np.float32(X_ND[X_ND > 0]), X_ND.shape),
    sparse.undirected(*EDGES, 5),
)
BATCH = {
    "features": sparse.row_normalized(NODES.features_ND),
    "adjacency": NODES.adjacency_NN,
    "label": jnp.array([0, -1, 2, -1, 1], jnp.int32),
    "mask": jnp.ones(5, bool),
}


def built(name, num_classes=3, **hparams):
    """The network, its weights, larger than at the start and none zero, and the same
    in float64."""
    model = models.build(name, num_classes=num_classes, dtype="float32", **hparams)
    shapes = jax.eval_shape(lambda: model.init(KEY, NODES, train=False))["params"]
    draw = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), shapes)
    return model, jax.tree.map(jnp.float32, params), params


def logits(model, params, **given):
    return jax.jit(lambda p: model.apply({"params": p}, NODES, train=False, **given))(
        params
    )


def test_gcn():
    model, params, weights = built("gcn", hidden=4)
    w0, w1 = (weights[f"layer_{i}"]["kernel"] for i in range(2))
    hidden_ND = np.maximum(A_HAT_NN @ X_ND @ w0, 0)  # eq. 9
    expected_NK = A_HAT_NN @ hidden_ND @ w1
    np.testing.assert_allclose(logits(model, params), expected_NK, atol=1e-5)
    features_ND = logits(model, params, method="features")
    np.testing.assert_allclose(features_ND, hidden_ND, atol=1e-5)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 6 * 4 + 4 * 3


def test_sgc():
    model, params, weights = built("sgc")
    smoothed_ND = A_HAT_NN @ A_HAT_NN @ X_ND  # eq. 8
    expected_NK = smoothed_ND @ weights["layer_0"]["kernel"]
    np.testing.assert_allclose(logits(model, params), expected_NK, atol=1e-5)
    features_ND = logits(model, params, method="features")
    np.testing.assert_allclose(features_ND, smoothed_ND, atol=1e-5)


def test_appnp_steps_and_their_limit():
    """alpha (I - (1 - alpha) A_hat)^-1 H is what many propagations reach: eq. 3."""
    model, params, weights = built("appnp", hidden=4, propagations=2)
    w0, w1 = (weights[f"layer_{i}"]["kernel"] for i in range(2))
    h_NK = np.maximum(X_ND @ w0, 0) @ w1
    z_NK = h_NK
    for _ in range(2):  # eq. 4
        z_NK = 0.9 * A_HAT_NN @ z_NK + 0.1 * h_NK
    np.testing.assert_allclose(logits(model, params), z_NK, atol=1e-5)

    model, *_ = built("appnp", hidden=4, propagations=60, teleport=0.3)
    limit_NK = 0.3 * np.linalg.solve(np.eye(5) - 0.7 * A_HAT_NN, h_NK)
    np.testing.assert_allclose(logits(model, params), limit_NK, atol=1e-5)


def gat_layer(x_ND, weights):
    """[N, H, F]: eqs. 3 and 4, a node and a head at a time."""
    H, F = weights["bias"].shape
    out_NHF = np.zeros((len(x_ND), H, F))
    for h in range(H):
        y_NF = x_ND @ weights["kernel"][:, h]
        a_2F = np.concatenate([weights["to"][h, :, 0], weights["from"][h, :, 0]])
        for i in range(len(x_ND)):
            heard = np.flatnonzero(A_NN[i] + np.eye(5)[i])
            e = np.array([a_2F @ np.concatenate([y_NF[i], y_NF[j]]) for j in heard])
            e = np.where(e > 0, e, 0.2 * e)
            share = np.exp(e) / np.exp(e).sum()
            out_NHF[i, h] = share @ y_NF[heard] + weights["bias"][h]
    return out_NHF


def test_gat():
    model, params, weights = built("gat", heads=2, hidden=4)
    hidden_ND = gat_layer(X_ND, weights["layer_0"]).reshape(5, 8)
    hidden_ND = np.where(hidden_ND > 0, hidden_ND, np.exp(hidden_ND) - 1)
    expected_NK = gat_layer(hidden_ND, weights["layer_1"])[:, 0]
    np.testing.assert_allclose(logits(model, params), expected_NK, atol=1e-4)


def test_attention_sums_to_one_however_large_its_logits():
    draw = np.random.default_rng(2)
    to_NH, from_NH = (jnp.float32(draw.normal(size=(5, 2)) * 1e3) for _ in range(2))

    @jax.jit
    def sums(to_NH):
        heard = attention(NODES.adjacency_NN, to_NH, from_NH)
        return sparse.row_sums(heard.edges_NN) + heard.self_N, heard.self_N

    (total_NH, self_NH), pull = jax.vjp(sums, to_NH)
    np.testing.assert_allclose(total_NH, np.ones((5, 2)), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(self_NH)[4], [1, 1])  # the node alone
    (gradient_NH,) = pull((total_NH, self_NH))
    assert np.isfinite(gradient_NH).all()


@pytest.mark.parametrize("name", ["gcn", "appnp", "gat"])
def test_dropout_is_drawn_for_each_key_and_only_in_training(name):
    smaller = {"appnp": {"propagations": 2}, "gat": {"heads": 2, "hidden": 4}}
    model, params, _ = built(name, **smaller.get(name, {}))

    @jax.jit
    def logits_of(key):
        given = {"params": params}, NODES
        trained = model.apply(*given, train=True, rngs={"dropout": key})
        # In evaluation it would ask for a key otherwise.
        return trained, model.apply(*given, train=False)

    (first, evaluated), (second, again), (repeated, _) = (
        map(np.asarray, logits_of(key)) for key in (KEY, jax.random.key(1), KEY)
    )
    assert abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(first, repeated)
    assert abs(first - evaluated).max() > 1e-3
    np.testing.assert_array_equal(evaluated, again)


def test_loss_is_cross_entropy_of_the_labeled_plus_half_the_squared_norm():
    """Of the first layer alone, or of both."""
    model, params, weights = built("gcn", hidden=4, dropout=0.0)
    algorithm, both = (
        GCN(model=model, tx=optax.sgd(1.0), decay_all=decay_all)
        for decay_all in (False, True)
    )

    @jax.jit
    def step():
        state = algorithm.init(KEY, BATCH).replace(params=params)
        after, metrics = algorithm.train_step(state, BATCH, KEY)
        predicted_NK = algorithm.predict(state, BATCH)
        values = {name: metric.compute() for name, metric in metrics.items()}
        _, metrics = both.train_step(state, BATCH, KEY)
        return state, after.step, values, metrics["loss"].compute(), predicted_NK

    state, after, metrics, loss_of_both, predicted_NK = step()

    x_ND = X_ND / np.maximum(X_ND.sum(1, keepdims=True), 1e-9)
    w0, w1 = (weights[f"layer_{i}"]["kernel"] for i in range(2))
    z_NK = A_HAT_NN @ np.maximum(A_HAT_NN @ x_ND @ w0, 0) @ w1
    log_p_NK = z_NK - np.log(np.exp(z_NK).sum(1, keepdims=True))
    loss = -(log_p_NK[0, 0] + log_p_NK[2, 2] + log_p_NK[4, 1]) / 3
    right = (z_NK.argmax(1)[[0, 2, 4]] == [0, 2, 1]).mean()
    assert float(metrics["cross_entropy"]) == pytest.approx(loss, rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(right)
    loss += 5e-4 / 2 * (w0**2).sum()
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
    loss += 5e-4 / 2 * (w1**2).sum()
    assert float(loss_of_both) == pytest.approx(loss, rel=1e-5)
    assert int(after) == 1
    np.testing.assert_allclose(predicted_NK, z_NK, atol=1e-5)
    assert jax.eval_shape(algorithm.features, state, BATCH).shape == (5, 4)


def test_built_by_name():
    context = {"model": built("gcn")[0], "tx": optax.sgd(0.1), "num_classes": 3}
    algorithm = algorithms.build("gcn.GCN", {"weight_decay": 0.1}, **context)
    assert algorithm.weight_decay == 0.1
    assert models.hparams("gcn") == {"hidden": 16, "dropout": 0.5, "dtype": "float32"}
    assert models.hparams("convnet")["dtype"] == "float32"
    with pytest.raises(UserError, match="gcm.*there are: .*gat, gcn, .*sgc"):
        models.build("gcm", num_classes=3, dtype="float32")


def test_bfloat16_stays_close_and_sums_in_float32():
    model, params, _ = built("gcn", hidden=4)
    half = models.build("gcn", num_classes=3, dtype="bfloat16", hidden=4)
    half_NK, full_NK = logits(half, params), logits(model, params)
    assert half_NK.dtype == jnp.float32
    np.testing.assert_allclose(half_NK, full_NK, rtol=0.05, atol=0.05)
