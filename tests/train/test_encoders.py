"""`--mode=embed` from a file of weights alone: what is known of its input, and what
has to be said."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from photos import fill

from configs import base, folder
from launching import assert_one_message
from ssl_jax.errors import UserError
from ssl_jax.train import encoders, sections

RNG = np.random.default_rng(0)
TENSORS = {
    "Dense_0.kernel": RNG.normal(size=(4 * 4 * 3, 5)).astype(np.float32),
    "Dense_0.bias": RNG.normal(size=5).astype(np.float32),
}
IMAGES_BHWC = RNG.integers(0, 256, (3, 4, 4, 3), np.uint8)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(TENSORS, path)
    return path


def run(file, image_size=4, **model):
    config = folder.get_config()
    config.data.image_size = image_size
    config.model = base.model("mlp", features=(5,), weights=str(file), **model)
    return sections.parse(config, to_train=False)


def expected(mean, std):
    x_BP = ((IMAGES_BHWC - np.float32(mean)) / np.float32(std)).reshape(3, -1)
    return jax.nn.relu(x_BP @ TENSORS["Dense_0.kernel"] + TENSORS["Dense_0.bias"])


def test_features_are_of_images_normalised_as_they_were(file):
    encoder = encoders.of_file(run(file, normalized="imagenet"))
    assert encoder.shape == (4, 4, 3)
    mean, std = [[[123.675, 116.28, 103.53]]], [[[58.395, 57.12, 57.375]]]
    features_BD = encoder.asked("features")(IMAGES_BHWC)
    np.testing.assert_allclose(features_BD, expected(mean, std), atol=1e-5)
    as_configured = encoders.of_file(run(file, normalized="as_configured"))
    half_BD = as_configured.asked("features")(IMAGES_BHWC)
    np.testing.assert_allclose(half_BD, expected(127.5, 127.5), atol=1e-5)


def test_what_lies_beside_the_file_is_known(file, caplog):
    """And does not have to be said: here timm's form of it."""
    about = dict(input_size=[3, 4, 4], mean=[0.5] * 3, std=[0.25] * 3)
    beside = file.with_name("config.json")
    beside.write_text(json.dumps({"pretrained_cfg": about}))
    encoder = encoders.of_file(run(file, image_size=0))
    assert encoder.shape == (4, 4, 3)
    features_BD = encoder.features(IMAGES_BHWC)
    np.testing.assert_allclose(features_BD, expected(127.5, 63.75), atol=1e-5)
    assert "data.image_size" not in caplog.text
    beside.write_text(json.dumps(about | {"input_size": [3, 8, 8]}))
    encoders.of_file(run(file))
    assert "of 8x8 pixels, and these have 4x4: data.image_size brings" in caplog.text


def test_what_is_not_known_is_asked_for(file):
    def refused(match, **settings):
        with pytest.raises(UserError, match=match):
            encoders.of_file(run(file, **settings))

    refused(r"does not say how its images were normalised: .*model.normalized")
    refused(r"does not say which size .*data.image_size=224", image_size=0)
    size = dict(normalized="half", image_size=8)
    refused(r"Dense_0.kernel is 48x5 in the file, 192x5 in the network", **size)


def test_a_mistake_is_one_message(file, tmp_path, launch):
    fill(tmp_path / "pile", "a.png")
    flags = ["--mode=embed", f"--config.predict.dir={tmp_path / 'pile'}"]
    flags += ["--config=folder", f"--workdir={tmp_path / 'w'}"]
    status, _, err = launch(*flags, f"--config.model.weights={file}")
    assert_one_message(status, err, "does not say how its images were normalised")
    assert not (tmp_path / "w").exists()
