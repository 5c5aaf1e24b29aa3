"""What a file of weights holds, and what lies beside it."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch_files

from ssl_jax.errors import UserError
from ssl_jax.models import pretrained

DRAW = np.random.default_rng(0)


def test_files_are_read_by_what_they_hold(tmp_path):
    tensors = {"a.weight": DRAW.normal(size=(2, 3)).astype(np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    read = pretrained.read(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read.tensors["a.weight"], tensors["a.weight"])
    assert read.input is None
    brain = {n: t.astype(jnp.bfloat16) for n, t in tensors.items()}
    safetensors.numpy.save_file(brain, tmp_path / "b.safetensors")
    read = pretrained.read(tmp_path / "b.safetensors").tensors["a.weight"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, np.float32(brain["a.weight"]))
    for name in ("state_dict", "model", "teacher"):
        saved = {n: torch_files.Tensor(t) for n, t in tensors.items()}
        path = tmp_path / f"{name}.pth"
        torch_files.save(path, {"epoch": 1, name: saved, "other": saved})
        assert pretrained.read(path).tensors.keys() == tensors.keys()
    torch_files.save(tmp_path / "b.pth", {"epoch": 1, "optimizer": {}})
    with pytest.raises(UserError, match=r"no network .*\['epoch', 'optimizer'\]"):
        pretrained.read(tmp_path / "b.pth")
    torch_files.save(tmp_path / "b.pth", {0: torch_files.Tensor(tensors["a.weight"])})
    with pytest.raises(UserError, match=r"no network by its tensors' names.*\['0'\]"):
        pretrained.read(tmp_path / "b.pth")
    with pytest.raises(UserError, match="there is no such file"):
        pretrained.read(tmp_path / "c.pth")
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:-3])
    with pytest.raises(UserError, match="is no whole .safetensors file"):
        pretrained.read(tmp_path / "a.safetensors")


def test_what_the_input_was_comes_along(tmp_path):
    tensors = {"a.weight": np.ones(2, np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    timm = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.25] * 3}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": timm}))
    read = pretrained.read(tmp_path / "a.safetensors")
    assert read.input == ((224, 224, 3), (127.5,) * 3, (63.75,) * 3)
    ours = {"input": {"shape": [32, 32, 3], "mean": [1.0], "std": [2.0]}}
    (tmp_path / "a.json").write_text(json.dumps(ours))
    read = pretrained.read(tmp_path / "a.safetensors")
    assert read.input == ((32, 32, 3), (1.0,), (2.0,))
    for other in (
        *({"input": "x"}, {"input": {"shape": 3}}, {"pretrained_cfg": []}, [1]),
        *({"input": ours["input"] | {n: ["x"]}} for n in ("shape", "mean")),
        *(timm | {"input_size": [3, 8]}, timm | {"std": []}),
    ):
        (tmp_path / "a.json").write_text(json.dumps(other))  # of something else
        assert pretrained.read(tmp_path / "a.safetensors").input[0] == (224, 224, 3)
    theirs = {"architecture": "tf_efficientnet_b0", "pretrained_cfg": timm}
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    with pytest.raises(UserError, match="of tf_efficientnet_b0, .* use timm's effic"):
        pretrained.read(tmp_path / "a.safetensors")
