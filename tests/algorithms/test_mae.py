"""MAE against a float64 transcription of models_mae.py; its masks and its pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from scipy.special import erf, softmax

from ssl_jax import augment, models
from ssl_jax.algorithms import mae
from ssl_jax.algorithms.mae import MAE
from ssl_jax.core import TrainState, model_rngs
from ssl_jax.errors import UserError

VIEWS = augment.build("two_crops", mean=(100.0,), std=(60.0,))
STILL = VIEWS._replace(first=lambda key, images: VIEWS.plain(images))
HEADS, SIDE = 2, 2


def build(views=STILL, **hparams):
    """sgd(1): an update is minus the gradient."""
    small = dict(width=8, depth=1, heads=HEADS, patch=SIDE, registers=1)
    model = models.build("vit", num_classes=3, dtype="float32", **small)
    decoder = dict(decoder_width=12, decoder_depth=1, decoder_heads=HEADS)
    return MAE(model=model, tx=optax.sgd(1.0), views=views, **decoder | hparams)


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 8, 3), np.uint8)
    return {"image": images, "label": np.full(6, -1, np.int32)}


@pytest.fixture(scope="module")
def started(batch):
    """(algorithm, a state off its start)."""
    algorithm = build()
    state = jax.jit(algorithm.init)(jax.random.key(0), batch)
    return algorithm, state.replace(params=off(jax.device_get(state.params), 1))


def off(params, seed):
    """Moved by a tenth of random numbers."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + (0.1 * rng.normal(size=leaf.shape)).astype(leaf.dtype),
        params,
    )


def dense(x, part):
    return x @ part["kernel"] + part["bias"]


def layer_norm(x, part):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * part["scale"] + part["bias"]


def block(x_TD, part):
    """timm's Block of one image's tokens, head by head."""
    q, k, v = np.split(
        dense(layer_norm(x_TD, part["attention_norm"]), part["attention"]["qkv"]), 3, 1
    )
    heads = []
    for at in np.split(np.arange(x_TD.shape[1]), HEADS):
        weights = softmax(q[:, at] @ k[:, at].T / len(at) ** 0.5, axis=1)
        heads.append(weights @ v[:, at])
    x_TD = x_TD + dense(np.concatenate(heads, 1), part["attention"]["out"])
    y = dense(layer_norm(x_TD, part["mlp_norm"]), part["mlp"]["Dense_0"])
    return x_TD + dense(y * (1 + erf(y / 2**0.5)) / 2, part["mlp"]["Dense_1"])


def sines(width, rows, columns):
    """get_2d_sincos_pos_embed, place by place and number by number."""
    quarter = width // 4
    embedding = np.zeros((rows * columns, width))
    for place in range(rows * columns):
        for half, at in enumerate((place % columns, place // columns)):
            for i in range(quarter):
                angle = at / 10_000 ** (i / quarter)
                first = 2 * quarter * half + i
                embedding[place, first] = np.sin(angle)
                embedding[place, first + quarter] = np.cos(angle)
    return embedding


def transcribed(params, images, order_BL, seen, normalized=True):
    """forward and forward_loss with norm_pix_loss, image by image: the loss of each,
    and what is painted."""
    encoder, decoder = params["encoder"], params["decoder"]
    losses, painted = [], []
    for x, order in zip((np.float64(images) - 100) / 60, order_BL, strict=True):
        rows, columns = x.shape[0] // SIDE, x.shape[1] // SIDE
        pieces = [
            x[i * SIDE : (i + 1) * SIDE, j * SIDE : (j + 1) * SIDE]
            for i in range(rows)
            for j in range(columns)
        ]
        kernel = encoder["patches"]["kernel"]
        tokens = np.stack([np.tensordot(piece, kernel, 3) for piece in pieces])
        tokens = tokens + encoder["patches"]["bias"]
        tokens = tokens + encoder["position"].reshape(len(pieces), -1)
        first = np.concatenate([encoder["class_token"], encoder["registers"]])
        first = first + encoder["prefix_position"]
        y = np.concatenate([first, tokens[order[:seen]]])
        y = layer_norm(block(y, encoder["Block_0"]), encoder["norm"])

        y = dense(y, decoder["embed"])
        full = np.repeat(decoder["mask_token"][0], len(pieces), axis=0)
        for token, place in zip(y[len(first) :], order[:seen], strict=True):
            full[place] = token
        full = full + sines(full.shape[1], rows, columns)
        y = block(np.concatenate([y[: len(first)], full]), decoder["Block_0"])
        y = dense(layer_norm(y, decoder["norm"]), decoder["pixels"])[len(first) :]

        loss = []
        for place in order[seen:]:
            target = pieces[place].reshape(-1)
            if normalized:
                var = target.var(ddof=1)
                target = (target - target.mean()) / (var + 1e-6) ** 0.5
            loss.append(((y[place] - target) ** 2).mean())
        losses.append(np.mean(loss))
        painted.append(y)
    return np.array(losses), np.array(painted)


@pytest.mark.parametrize("normalized", [True, False])
def test_loss_and_update_are_the_transcriptions(started, batch, normalized):
    algorithm, state = started
    algorithm = build(normalized=normalized)
    key = jax.random.key(3)
    after, metrics = jax.jit(algorithm.train_step)(state, batch, key)
    masked = algorithm.masked(jax.random.split(key)[1], STILL.plain(batch["image"]))
    assert masked.seen == 2  # of 8
    order_BL = np.asarray(masked.order_BL)
    params = jax.tree.map(np.float64, jax.device_get(state.params))

    def loss(params):
        given = (params, batch["image"], order_BL, masked.seen, normalized)
        return transcribed(*given)[0]

    for name in ("loss", "reconstruction_loss"):
        np.testing.assert_allclose(
            metrics[name].compute(), loss(params).mean(), atol=1e-5
        )
    if not normalized:
        return
    moved = jax.tree.map(lambda a, b: np.float64(a) - b, state.params, after.params)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(moved))
    for seed in range(4):  # by differences along some directions
        along = off(jax.tree.map(np.zeros_like, params), seed)
        ahead, behind = (
            loss(jax.tree.map(lambda p, a, step=step: p + step * a, params, along))
            for step in (1e-4, -1e-4)
        )
        slope = sum(
            (m * a).sum()
            for m, a in zip(*map(jax.tree.leaves, (moved, along)), strict=True)
        )
        np.testing.assert_allclose(slope, (ahead - behind).mean() / 2e-4, atol=1e-5)

    mask = np.arange(6) < 4
    held_out = jax.jit(algorithm.eval_step)(state, batch | {"mask": mask}, key)
    masked = algorithm.masked(key, STILL.plain(batch["image"]))
    given = (params, batch["image"], np.asarray(masked.order_BL), masked.seen)
    np.testing.assert_allclose(
        held_out["reconstruction_loss"].compute(),
        transcribed(*given)[0][mask].mean(),
        atol=1e-5,
    )


class Drawing(nn.Module):
    """Paints one number everywhere, which it draws as dropout draws."""

    def __call__(self, masked, *, train):
        return jax.random.normal(self.make_rng("dropout")) * jnp.ones((6, 8, 12))


def test_what_the_network_drops_is_drawn_by_the_steps_key(batch, monkeypatch):
    algorithm, key = build(normalized=False), jax.random.key(3)
    monkeypatch.setattr(MAE, "network", Drawing())
    state = TrainState(jnp.int32(0), {}, {}, algorithm.tx.init({}), {})
    _, metrics = jax.jit(algorithm.train_step)(state, batch, key)
    painted = Drawing().apply({}, None, train=True, rngs=model_rngs(key))[0, 0, 0]
    x_BHWC = STILL.plain(batch["image"])
    masked = algorithm.masked(jax.random.split(key)[1], x_BHWC)
    hidden_BL = np.asarray(mae.ranks(masked.order_BL)) >= masked.seen
    targets_BLP = np.asarray(mae.patches(x_BHWC, SIDE))
    expected = ((targets_BLP - np.float64(painted)) ** 2)[hidden_BL].mean()
    np.testing.assert_allclose(metrics["loss"].compute(), expected, rtol=1e-5)


def test_each_image_hides_as_many_patches_and_others_of_them():
    algorithm, x_BHWC = build(mask_ratio=0.6), jnp.zeros((300, 4, 8, 1))
    masked = algorithm.masked(jax.random.key(0), x_BHWC)
    order_BL = np.asarray(masked.order_BL)
    assert masked.seen == 3  # int(8 * 0.4)
    np.testing.assert_array_equal(np.sort(order_BL), np.tile(np.arange(8), (300, 1)))
    counts_L = np.bincount(order_BL[:, :3].reshape(-1), minlength=8)
    assert np.abs(counts_L / 300 - 3 / 8).max() < 4 * (15 / 64 / 300) ** 0.5
    np.testing.assert_array_equal(
        np.take_along_axis(np.asarray(mae.ranks(order_BL)), order_BL, 1),
        np.tile(np.arange(8), (300, 1)),
    )
    for ratio, seen in ((0.99, 1), (0.01, 7)):
        assert build(mask_ratio=ratio).masked(jax.random.key(0), x_BHWC).seen == seen


def test_encoders_places_begin_as_sines_but_where_others_weights_do_not(batch):
    algorithm = build()
    state = algorithm.init(jax.random.key(0), batch)
    encoder = state.params["encoder"]
    np.testing.assert_allclose(
        encoder["position"].reshape(8, 8), sines(8, 2, 4), atol=1e-6
    )
    given = encoder | {"position": encoder["position"] + 1}
    again = algorithm.init(jax.random.key(1), batch, {"params": {"encoder": given}})
    jax.tree.map(np.testing.assert_array_equal, again.params["encoder"], given)


def test_features_are_of_the_whole_image(started, batch):
    algorithm, state = started
    features_BD = jax.jit(algorithm.features)(state, batch)
    encoder = algorithm.model.encoder
    variables = {"params": state.params["encoder"]}
    x_BHWC = VIEWS.plain(batch["image"])
    tokens_BTD = encoder.apply(
        variables, x_BHWC, train=False, kept_BV=np.tile(np.arange(8), (6, 1))
    )
    np.testing.assert_allclose(features_BD, tokens_BTD[:, 0], atol=1e-5)


def test_pictures_have_the_seen_patches_as_they_are(started, batch):
    algorithm, state = started
    reconstruct = jax.jit(algorithm.reconstruct, static_argnames="count")
    shown = reconstruct(state, batch, count=5)
    assert {*shown} == {"test image", "input", "reconstruction"}
    images = batch["image"][:5]
    np.testing.assert_array_equal(shown["test image"], images)
    masked = algorithm.masked(jax.random.key(0), STILL.plain(images))
    params = jax.tree.map(np.float64, jax.device_get(state.params))
    order_BL = np.asarray(masked.order_BL)
    _, painted_BLP = transcribed(params, images, order_BL, masked.seen)
    for b, order in enumerate(order_BL):
        for rank, place in enumerate(order):
            i, j = SIDE * (place // 4), SIDE * (place % 4)
            at = (b, slice(i, i + SIDE), slice(j, j + SIDE))
            patch, painted = images[at], np.asarray(shown["reconstruction"][at])
            if rank < masked.seen:
                for name in ("input", "reconstruction"):
                    np.testing.assert_array_equal(shown[name][at], patch)
                continue
            assert (np.asarray(shown["input"][at]) == 128).all()
            level = painted_BLP[b, place].reshape(patch.shape) * patch.std(ddof=1)
            wanted = np.clip(level + patch.mean(), 0, 255)
            assert np.abs(painted - wanted).max() <= 0.51


def test_what_does_not_fit_is_refused(batch):
    with pytest.raises(UserError, match="decoder_heads=5 does not divide .*=12"):
        build(decoder_heads=5)
    with pytest.raises(UserError, match="decoder_width=6 must be a multiple of 4"):
        build(decoder_width=6)
    with pytest.raises(UserError, match="2x2 images have no patch to hide"):
        build().init(jax.random.key(0), {"image": batch["image"][:, :2, :2]})
