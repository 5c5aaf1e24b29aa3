"""The recipe for a few labels: from a file of weights and a folder to predictions."""

import csv
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from photos import fill
from PIL import Image

from configs import base, features_folder
from ssl_jax.active import questions
from ssl_jax.cli import embed, export, modes, predict
from ssl_jax.errors import UserError
from ssl_jax.train import loop, pictures

CLASSES = ("dark", "light")


def bright(path, value, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise_HW = np.random.default_rng(seed).integers(-20, 20, (12, 10))
    Image.fromarray((value + noise_HW).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of images that a hand-made encoder tells apart by their grey, with two
    labels a class, and the file with that encoder."""
    home = tmp_path_factory.mktemp("home")
    for c, name in enumerate(CLASSES):
        for i in range(2):
            bright(home / f"photos/{name}/{i}.png", 60 + 140 * c, i)
            bright(home / f"photos/test/{name}/{i}.png", 60 + 140 * c, 10 + i)
        for i in range(5):
            bright(home / f"photos/unlabeled/{name}{i}.png", 60 + 140 * c, 20 + i)
    signs = np.float32([1, -1, 2, -2]) / 64
    tensors = {
        "Dense_0.kernel": np.tile(signs, (64, 1)),
        "Dense_0.bias": np.zeros(4, np.float32),
    }
    safetensors.numpy.save_file(tensors, home / "w.safetensors")
    about = {"input": {"shape": [8, 8, 1], "mean": [127.5], "std": [127.5]}}
    (home / "w.json").write_text(json.dumps(about))
    return home


def recipe(home, words=""):
    config = features_folder.get_config(words)
    config.tensorboard = False
    config.data.update(dir=str(home / "photos"), image_size=8)
    weights = str(home / "w.safetensors")
    config.model = base.model("mlp", features=(4,), weights=weights)
    config.spreading.update(steps=20, eval_every=20, checkpoint_every=20)
    config.probe.update(steps=20, eval_every=20, checkpoint_every=20)
    return config


@pytest.fixture(scope="module")
def trained(home):
    config = recipe(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_JAX_CACHE", str(home / "cache"))
        patch.setattr(loop, "show", lambda *_: None)  # figures take seconds
        patch.setattr(pictures, "before", lambda *_: {})
        result = modes.run(config, home / "w", jax.devices()[:1])
    return config, home / "w", result


def test_a_few_labels_and_an_encoder_tell_all_apart(trained):
    _, _, result = trained
    for name in ("spreading", "probe"):
        assert result["phases"][name]["test"]["accuracy"] == 1.0
    assert result["data"]["unlabeled"] == 10


def test_both_predict_ask_embed_and_are_exported(trained, home, tmp_path, capsys):
    config, workdir, _ = trained
    config = config.copy_and_resolve_references()
    config.predict.dir = str(home / "photos/unlabeled")
    for phases in (("spreading",), ("spreading", "probe")):
        config.phases = phases
        config.predict.out = str(tmp_path / f"{phases[-1]}.csv")
        predict.write(config, workdir)
        with open(config.predict.out, newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 10
        assert all(row["path"].startswith(row["label"]) for row in rows)
        config.predict.out = ""
        embed.write(config, workdir)
    one, two = (np.load(workdir / f"features{n}.npz")["features"] for n in ("", "_2"))
    np.testing.assert_allclose(one, two, atol=1e-6)
    config.query.update(strategy="k_center", size=3)
    for strategy in ("k_center", "entropy"):
        config.query.strategy = strategy
        config.phases = ("spreading",)
        questions.ask(config, workdir)
    assert "3 questions" in capsys.readouterr().out
    config.phases = ("spreading", "probe")
    config.predict.out = str(tmp_path / "probe.zip")
    export.write(config, workdir)
    config.phases = ("spreading",)
    with pytest.raises(UserError, match="it compares an image with all those that it"):
        export.write(config, workdir)


def test_what_cannot_be_is_told(home, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(home / "cache"))

    def refused(match, config):
        with pytest.raises(UserError, match=match):
            modes.run(config, tmp_path / "w", jax.devices()[:1])
        assert not (tmp_path / "w").exists()

    config = recipe(home)
    config.probe.augment.std = (64.0,)
    refused(r"normalised otherwise .*--config.probe.augment.std='\(127.5,\)'", config)
    config.spreading.augment.mean = (100.0,)
    refused(
        r"2 mistakes.*\n.*--config.spreading.augment.mean='\(127.5,\)'.*"
        r"\n.*--config.probe.augment.mean='\(127.5,\)'",
        config,
    )
    config = recipe(home)
    config.model.features = (5,)
    refused("Dense_0.kernel is 64x4 in the file, 64x5 in the network", config)
    config = recipe(home)
    config.data.dir = str(tmp_path / "unlabeled")
    fill(tmp_path / "unlabeled", "a.png", "b.png")
    refused("there are no class folders in .*unlabeled", config)
    config = recipe(home)
    config.spreading.batch_size = 8
    refused("FeatureSpreading sees all rows at once; use 0", config)
