"""`model.weights`: a phase that begins with somebody's file."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import tiny
from configs import base
from ssl_jax.errors import UserError
from ssl_jax.train import program, sections, weights

KERNEL = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
TENSORS = {"Dense_0.kernel": KERNEL, "Dense_0.bias": np.full(8, 0.5, np.float32)}


def _config(path, **model):
    config = tiny.config("supervised.Supervised")
    config.model = base.model("mlp", features=(8,), weights=str(path), **model)
    return config


def _file(folder, tensors, about=None):
    path = folder / "w.safetensors"
    safetensors.numpy.save_file(tensors, path)
    if about:
        path.with_suffix(".json").write_text(json.dumps({"input": about}))
    return path


def _begun(config):
    """The parameters that the phase starts from."""
    phase = tiny.build(config)
    with jax.set_mesh(phase.mesh):
        initial = program.initial_of(phase, Path())
        return program.initialise(phase, initial).params


def test_a_phase_from_scratch_begins_with_the_file(tmp_path):
    path = _file(tmp_path, TENSORS)
    begun = _begun(_config(path, normalized="half"))
    np.testing.assert_array_equal(begun["encoder"]["Dense_0"]["kernel"], KERNEL)
    partial = _file(tmp_path, {"Dense_0.kernel": KERNEL})
    with pytest.raises(UserError, match="Dense_0.bias of the network is not in the f"):
        _begun(_config(partial, normalized="half"))
    begun = _begun(_config(partial, normalized="half", partial=True))
    np.testing.assert_array_equal(begun["encoder"]["Dense_0"]["kernel"], KERNEL)
    np.testing.assert_array_equal(begun["encoder"]["Dense_0"]["bias"], 0)


def test_images_are_normalised_as_they_were(tmp_path):
    shape = [8, 8, 1]
    path = _file(tmp_path, TENSORS, dict(shape=shape, mean=[127.5], std=[127.5]))
    _begun(_config(path))  # the file beside it says so
    with pytest.raises(UserError, match="does not say how .* by model.normalized"):
        path.with_suffix(".json").unlink()
        _begun(_config(path))
    _begun(_config(path, normalized="as_configured"))
    _file(tmp_path, TENSORS, dict(shape=shape, mean=[100.0], std=[50.5]))
    flags = (
        r"--config.train.augment.mean='\(100,\)' --config.train.augment.std='\(50.5,\)'"
    )
    with pytest.raises(UserError, match="normalised otherwise .*" + flags):
        _begun(_config(path))


def test_colours_that_images_do_not_have_are_told(tmp_path):
    with pytest.raises(UserError, match="of 3 channels, and those of train have 1"):
        _begun(_config(_file(tmp_path, TENSORS), normalized="imagenet"))


def test_an_encoder_that_nobody_has_trained_is_told_of(tmp_path, caplog):
    def told(path, layers):
        caplog.clear()
        config = _config(path, normalized="half")
        config.train.optimizer.layers = layers
        run = sections.parse(config)
        weights.warn_of_fresh(run, run.trained["train"])
        return "nobody has trained the encoder that its optimizer spares" in caplog.text

    assert told("", "head") and not told("", "all")
    assert not told(_file(tmp_path, TENSORS), "head")


def test_mistakes_are_told_before_data_are_read(tmp_path):
    def refused(match, path=tmp_path / "none.pth", seeds=1, **model):
        config = _config(path, **model)
        config.num_seeds = seeds
        with pytest.raises(UserError, match=match):
            sections.parse(config)

    refused(r"model.weights='.*none.pth': there is no such file")
    refused(r"model.partial=True is of model.weights", path="", partial=True)
    refused(r"normalized='mean' is unknown; .*'imagenet', 'half'", normalized="mean")
    there = _file(tmp_path, TENSORS)
    refused(r"not from model.weights=.*use num_seeds=1", path=there, seeds=2)
    sections.parse(_config("gone.pth"), to_train=False)  # as to predict
    older = _config(there).to_dict()
    del older["model"]["weights"]
    with pytest.raises(UserError, match="model differs in weights: .* another version"):
        sections.parse(older)


def test_a_damaged_file_ends_a_launch_with_one_message(tmp_path, launch):
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04 and no more")
    flags = ["--config=digits.py:supervised,debug", f"--workdir={tmp_path / 'run'}"]
    flags += [f"--config.model.weights={tmp_path / 'w.pth'}"]
    status, _, err = launch(*flags)
    assert status == 2 and err.count("w.pth") == 1
    assert "is no whole file by torch.save" in err and "Traceback" not in err
