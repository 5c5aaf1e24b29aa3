"""The autoencoder against a float64 transcription; its noise, target and config."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import autoencoder_mnist
from ssl_jax import augment, models
from ssl_jax.algorithms.autoencoder import Autoencoder
from ssl_jax.errors import UserError

GREY = dict(mean=(0.0,), std=(255.0,))


def build(views, **hparams):
    """sgd(1): an update is minus the gradient."""
    model = models.build("mlp", num_classes=3, dtype="float32", features=(12,))
    return Autoencoder(
        model=model,
        tx=optax.sgd(1.0),
        views=augment.build("weak_strong", flip=False, **views),
        **hparams,
    )


@pytest.fixture
def batch():
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    return {"image": images, "label": np.full(16, -1, np.int32)}


def transcription(params, x_BP, targets_BP):
    """(loss_B, its mean's gradient by the last layer): p = sigmoid(decoder(encoder))
    and -t log p - (1 - t) log(1 - p), in float64."""
    params = jax.tree.map(np.float64, params)
    encoder, first, last = (
        params["encoder"]["Dense_0"],
        params["decoder"]["Dense_0"],
        params["decoder"]["Dense_1"],
    )
    code = np.maximum(x_BP @ encoder["kernel"] + encoder["bias"], 0)
    hidden = np.maximum(code @ first["kernel"] + first["bias"], 0)
    p = 1 / (1 + np.exp(-hidden @ last["kernel"] - last["bias"]))
    loss_BP = -targets_BP * np.log(p) - (1 - targets_BP) * np.log(1 - p)
    return loss_BP.mean(1), hidden.T @ (p - targets_BP) / p.size


def test_loss_and_gradient_are_the_transcriptions(batch):
    """With other grey levels in than out: the target is in [0, 1] whatever the views
    are normalised to."""
    algorithm = build(dict(weak="none"), decoder=(10,))
    state = algorithm.init(jax.random.key(0), batch)
    after, metrics = jax.jit(algorithm.train_step)(state, batch, jax.random.key(0))
    pixels = np.float64(batch["image"]).reshape(16, -1)
    x_BP, targets_BP = pixels / 127.5 - 1, pixels / 255
    loss_B, grad = transcription(state.params, x_BP, targets_BP)
    for name in ("loss", "reconstruction_loss"):
        np.testing.assert_allclose(metrics[name].compute(), loss_B.mean(), rtol=1e-5)
    kernel, moved = (
        np.float64(s.params["decoder"]["Dense_1"]["kernel"]) for s in (state, after)
    )
    np.testing.assert_allclose(kernel - moved, grad, atol=1e-6)
    assert np.abs(grad).max() > 1e-3  # far from nothing

    mask = np.arange(16) < 5
    held_out = jax.jit(algorithm.eval_step)(
        state, batch | {"mask": mask}, jax.random.key(0)
    )
    measured = held_out["reconstruction_loss"].compute()
    np.testing.assert_allclose(measured, loss_B[mask].mean(), rtol=1e-5)


@pytest.mark.parametrize("block", [1, 4, 5])
def test_whole_blocks_of_every_image_are_blanked_with_their_probability(block):
    images = np.full((400, 12, 12, 2), 200, np.uint8)
    algorithm = build(dict(weak="none"), noise=0.3, block=block)
    x_BHWC = np.asarray(jax.jit(algorithm.damaged)(jax.random.key(1), images))
    black = x_BHWC == -1
    assert ((x_BHWC == np.float32(200 / 127.5 - 1)) | black).all()
    np.testing.assert_array_equal(black[..., 0], black[..., 1])
    # By its first pixel every block is told; those at the end are cut.
    corners = black[:, ::block, ::block, 0]
    spread = corners.repeat(block, 1).repeat(block, 2)[:, :12, :12]
    np.testing.assert_array_equal(black[..., 0], spread)
    assert abs(corners.mean() - 0.3) < 4 * (0.3 * 0.7 / corners.size) ** 0.5
    assert len(np.unique(corners.reshape(400, -1), axis=0)) > 100  # not one for all


def test_input_is_moved_and_blanked_but_the_target_is_neither(batch):
    """The loss of what the input gave, against the image as it is."""
    hparams = dict(decoder=(10,), noise=0.5, block=2)
    algorithm = build(dict(weak="shift", shift=2, **GREY), **hparams)
    state, key = algorithm.init(jax.random.key(0), batch), jax.random.key(3)
    x_BHWC = np.float64(jax.jit(algorithm.damaged)(key, batch["image"]))
    pixels = np.float64(batch["image"]) / 255
    seen = np.abs(x_BHWC - pixels) < 1e-6  # where it happens to be the same
    assert (x_BHWC == 0).mean() > 0.4 and seen.mean() < 0.4
    _, metrics = jax.jit(algorithm.train_step)(state, batch, key)
    x_BP, targets_BP = x_BHWC.reshape(16, -1), pixels.reshape(16, -1)
    right = transcription(state.params, x_BP, targets_BP)[0].mean()
    wrong = transcription(state.params, x_BP, x_BP)[0].mean()
    np.testing.assert_allclose(metrics["loss"].compute(), right, rtol=1e-5)
    assert abs(wrong - right) > 1e-3


def test_reconstructions_are_images(batch):
    """Rows for the figure: the image, what is seen of it, what is painted."""
    algorithm = build(dict(weak="none", std=(60.0,), mean=(30.0,)), noise=0.5, block=4)
    state = algorithm.init(jax.random.key(0), batch)
    shown = algorithm.reconstruct(state, batch)
    assert list(shown) == ["test image", "input", "reconstruction"]
    images = batch["image"][:10]
    np.testing.assert_array_equal(shown["test image"], images)
    blanked = np.asarray(shown["input"]) == 0
    np.testing.assert_array_equal(
        np.asarray(shown["input"])[~blanked], images[~blanked]
    )
    assert 0.2 < blanked.mean() < 0.8
    painted = shown["reconstruction"]
    assert painted.dtype == np.uint8 and painted.shape == images.shape
    assert 90 < painted.mean() < 165  # sigmoid of about 0
    clean = build(dict(weak="none"))
    assert list(clean.reconstruct(clean.init(jax.random.key(0), batch), batch)) == [
        "test image",
        "reconstruction",
    ]


def test_features_are_the_codes_of_the_plain_view(batch):
    algorithm = build(dict(weak="shift", shift=2, **GREY), noise=0.9)
    state = algorithm.init(jax.random.key(0), batch)
    encoder = jax.tree.map(np.float64, state.params["encoder"]["Dense_0"])
    pixels = np.float64(batch["image"]).reshape(16, -1) / 255
    codes = np.maximum(pixels @ encoder["kernel"] + encoder["bias"], 0)
    np.testing.assert_allclose(algorithm.features(state, batch), codes, atol=1e-5)


def test_initialised_as_keras_does(batch):
    """glorot_uniform: +-sqrt(6 / (fan_in + fan_out)), and biases 0."""
    params = build({}, decoder=(10,)).init(jax.random.key(0), batch).params
    assert sorted(params) == ["decoder", "encoder"]
    for part, layer, shape in (
        ("encoder", "Dense_0", (64, 12)),
        ("decoder", "Dense_0", (12, 10)),
        ("decoder", "Dense_1", (10, 64)),
    ):
        kernel = np.asarray(params[part][layer]["kernel"])
        limit = (6 / sum(shape)) ** 0.5
        assert kernel.shape == shape
        assert 0.95 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.15)
        np.testing.assert_array_equal(params[part][layer]["bias"], 0)


def test_views_of_another_size_are_refused(batch):
    algorithm = build(dict(weak="none", side=4, resize=8))
    state = algorithm.init(jax.random.key(0), batch)
    with pytest.raises(UserError, match=r"\(8, 8, 1\) into \(4, 4, 1\).*side=0"):
        algorithm.eval_step(state, batch | {"mask": np.ones(16, bool)}, None)


def test_lenets_size_and_that_it_keeps_places():
    encoder = models.build("lenet", num_classes=10, dtype="float32").encoder
    x_BHWC = jnp.zeros((2, 28, 28, 1)).at[1, 3, 3, 0].set(1)
    moved_BHWC = jnp.roll(x_BHWC, 8, axis=1)
    variables = encoder.init(jax.random.key(0), x_BHWC, train=False)
    sizes = [leaf.size for leaf in jax.tree.leaves(variables)]
    assert sum(sizes) == (9 + 1) * 16 + (9 * 16 + 1) * 32 + (7 * 7 * 32 + 1) * 256
    features, moved = (
        encoder.apply(variables, x, train=True) for x in (x_BHWC, moved_BHWC)
    )
    assert features.shape == (2, 256) and (features >= 0).all()
    assert np.abs(features[1] - moved[1]).max() > 1e-3


def test_config_takes_the_tutorials_steps():
    tutorial = autoencoder_mnist.get_config()
    denoising = autoencoder_mnist.get_config("denoising")
    assert tutorial.phases == ("supervised", "pretrain", "finetune")
    assert tutorial.data.num_unlabeled // 256 == 39  # and Keras has a 40th, of 16
    assert tutorial.pretrain.steps == 50 * 40
    for config, updates, epochs in ((tutorial, 640, 20.48), (denoising, 800, 40)):
        finetune, supervised = config.finetune, config.supervised
        assert finetune.steps == updates
        images = finetune.steps * finetune.batch_size
        assert images / config.data.num_labels == epochs
        assert (finetune.start_from, supervised.start_from) == ("pretrain", "scratch")
        finetune.start_from = "scratch"  # nothing else tells them apart
        assert finetune.to_dict() == supervised.to_dict()
    epoch = denoising.data.num_unlabeled // denoising.pretrain.batch_size
    assert denoising.pretrain.steps == 40 * epoch
