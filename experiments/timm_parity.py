"""Are our networks timm's? The same random weights, the same images: the same logits.

    python -m experiments.timm_parity [NAME ...] > experiments/results/timm_parity.jsonl

For each network timm makes one with random parameters and moments, and saves it in the
two forms that `model.weights` reads; ours takes them, and both see two images. Needs
timm and PyTorch, which the project does not; torchvision, which timm imports, is stood
in for, since nothing of it is used here.

A line for each, as JSON: parameters of timm's and of ours, the largest difference of
logits, beside the largest logit, versions, device and commit. It exits with status 1
where counts differ, or logits by more than 1e-4 of the largest.
"""

import importlib.machinery
import json
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import models
from ssl_jax.models import pretrained
from ssl_jax.workdir import results

CLASSES = 11
TOLERANCE = 1e-4
# name: timm's name and its arguments, ours, and pixels a side
NETWORKS = {
    "resnet18": ("resnet18", {}, "resnet", {}, 96),
    "resnet50": ("resnet50", {}, "resnet", {"depth": 50}, 64),
    "vit_tiny": ("vit_tiny_patch16_224", {}, "vit", {}, 224),
    "vit_small": ("vit_small_patch16_224", {}, "vit", {"size": "small"}, 224),
    "vit_base": ("vit_base_patch16_224", {}, "vit", {"size": "base"}, 224),
    "vit_small_registers": (
        "vit_small_patch14_reg4_dinov2",
        {"img_size": 126},
        "vit",
        dict(size="small", patch=14, registers=4, prefix_position=False)
        | dict(layer_scale=1e-5),
        126,
    ),
    "vit_tiny_mean": (
        "vit_tiny_patch16_224",
        dict(global_pool="avg", class_token=False, img_size=64),
        "vit",
        dict(pool="mean", class_token=False),
        64,
    ),
    # its position embeddings are resampled to the images of ours
    "vit_tiny_resampled": (
        "vit_tiny_patch16_224",
        dict(dynamic_img_size=True),
        "vit",
        {},
        96,
    ),
    **{
        f"convnext_{size}": (f"convnext_{size}", {}, "convnext", {"size": size}, 64)
        for size in ("atto", "femto", "pico", "nano", "tiny")
    },
    "efficientnet_b0": ("efficientnet_b0", {}, "efficientnet", {}, 64),
    "efficientnet_b2": (
        "efficientnet_b2",
        {},
        "efficientnet",
        dict(widen=1.1, deepen=1.2),
        64,
    ),
}
_TORCHVISION = (
    *("torchvision", "torchvision.transforms", "torchvision.transforms.functional"),
    *("torchvision.datasets", "torchvision.datasets.folder", "torchvision.ops"),
    *("torchvision.ops.misc", "torchvision.models", "torchvision.utils"),
    "torchvision.models.feature_extraction",
)


class _Anything(type):
    """A class whose attributes are their names, as timm's tables of them need."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


def without_torchvision() -> None:
    """Modules of its names, so that timm can be imported."""
    for name in _TORCHVISION:
        module = sys.modules[name] = _Module(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def compared(name: str, folder: Path) -> Iterator[dict]:
    """What timm and we say of it, for each form of file."""
    import safetensors.torch
    import timm
    import torch

    theirs, options, ours, hparams, side = NETWORKS[name]
    torch.manual_seed(0)
    network = timm.create_model(theirs, num_classes=CLASSES, **options).eval()
    draw = np.random.default_rng(0)
    images_BHWC = draw.normal(size=(2, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        for each, tensor in network.state_dict().items():
            if "running_var" in each:
                tensor.uniform_(0.5, 1.5)
            elif "running_mean" in each or each.endswith("bias"):
                tensor.normal_(0, 0.2)
            elif tensor.ndim == 1:  # of norms and layer scales
                tensor.uniform_(0.5, 1.5)
        images = torch.from_numpy(images_BHWC.transpose(0, 3, 1, 2).copy())
        expected_BK = network(images).numpy()
    parameters = sum(p.numel() for p in network.parameters())

    model = models.build(ours, num_classes=CLASSES, dtype="float32", **hparams)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.asarray(images_BHWC), train=False)
    )
    own = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    for form, save in (
        (".safetensors", safetensors.torch.save_file),
        (".pth", torch.save),
    ):
        file = folder / f"{name}{form}"
        save(network.state_dict(), file)
        fitted = pretrained.fitted(
            pretrained.read(file).tensors,
            shapes,
            name=ours,
            path=str(file),
            partial=False,
        )
        with jax.default_matmul_precision("float32"):
            logits_BK = np.asarray(apply(fitted.parts, images_BHWC))
        yield {
            "network": name,
            "file": form,
            "holds": fitted.holds,
            "parameters": parameters,
            "ours": own,
            "largest_difference": float(abs(logits_BK - expected_BK).max()),
            "largest_logit": float(abs(expected_BK).max()),
            "timm": timm.__version__,
            "torch": torch.__version__,
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "git": results.git_state(),
        }


def equal(line: dict) -> bool:
    """Whether a line says that ours is timm's."""
    # Position embeddings of another grid are other parameters.
    same = line["parameters"] == line["ours"] or "resampled" in line["network"]
    return same and line["largest_difference"] <= TOLERANCE * line["largest_logit"]


def main(names: list[str]) -> int:
    """The exit status."""
    without_torchvision()
    wrong = 0
    for name in names or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            for line in compared(name, Path(folder)):
                wrong += not equal(line)
                print(json.dumps(line), flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
