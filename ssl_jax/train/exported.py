"""A run's network for where there is no ssl_jax: a program, or tensors.

The program is jax.export's, of any number of images, for CPUs and CUDA: normalising,
network and softmax with the weights in it. The tensors are the encoder's alone.
"""

from collections.abc import Iterator

import jax
import numpy as np
from jax import export

from ssl_jax import models
from ssl_jax.core import PyTree, can, fetch
from ssl_jax.errors import UserError
from ssl_jax.train import restored, weights
from ssl_jax.train.classifier import Classifier

PLATFORMS = ("cpu", "cuda")
# What PyTorch's order of a tensor's axes is: out, in, height, width.
_AXES = {
    ("kernel", 4): (("height", "width", "in", "out"), (3, 2, 0, 1)),
    ("kernel", 2): (("in", "out"), (1, 0)),
}
_DEPTHWISE = (("height", "width", "channels", "one"), (2, 3, 0, 1))


def program(classifier: Classifier) -> bytes:
    """jax.export's form of images_BHWC uint8 -> probs_BK float32.

    Raises:
      UserError: it classifies no images, or by what it keeps of each image.
    """
    classifier.asked("predict")
    if can(classifier.algorithm, "transduce"):
        raise UserError(
            f"{classifier.method} has no network to export: it compares an image with "
            "all those that it has kept; label images by --mode=predict."
        )
    state = fetch(classifier.state)

    def probs_of(images_BHWC):
        batch = {"image": images_BHWC}
        return restored.probabilities(classifier.algorithm, state, batch)

    (B,) = export.symbolic_shape("B")
    images_BHWC = jax.ShapeDtypeStruct((B, *classifier.shape), np.uint8)
    exported = export.export(jax.jit(probs_of), platforms=PLATFORMS)(images_BHWC)
    return bytes(exported.serialize())


def encoder(classifier: Classifier) -> tuple[dict[str, np.ndarray], dict]:
    """({name: tensor}, their layout as JSON holds it) of the encoder that features come
    from, by the weights that are judged.

    The layout has under "tensors" by each name its shape, its axes in order, and
    "torch", by which `permute` puts them in PyTorch's; under "input" how an image of
    grey levels 0 to 255 is brought to it: its size [height, width, channels], then
    (x - mean) / std.

    Raises:
      UserError: the method has no encoder.
    """
    algorithm, state = classifier.algorithm, fetch(classifier.state)
    image = jax.ShapeDtypeStruct((1, *classifier.shape), np.uint8)
    shapes = []

    def features():
        def of_image(x_BHWC):
            return algorithm.features(state, {"image": x_BHWC})

        shapes.append(jax.eval_shape(of_image, image))

    variables = models.encoder_variables(features)
    if not variables:
        raise UserError(
            f"{classifier.method} has no encoder to export: it learns no network."
        )
    tensors, layout = {}, {}
    for name, leaf in _named(variables):
        axes, torch = _axes(name, np.ndim(leaf))
        tensors[name] = np.asarray(leaf, order="C")  # also of a scalar
        layout[name] = {"shape": list(np.shape(leaf)), "axes": axes, "torch": torch}
    about = {
        "features": shapes[0].shape[1],
        "input": _input(algorithm.views.plain, classifier.shape),
        "flattened": "height, width, channels",
        "tensors": layout,
    }
    return tensors, about


def _named(variables: PyTree) -> Iterator[tuple[str, np.ndarray]]:
    """("Conv_0.kernel", tensor), ..., of all collections: their names differ."""
    for tree in variables.values():
        for path, leaf in jax.tree.leaves_with_path(tree):
            yield jax.tree_util.keystr(path, simple=True, separator="."), leaf


def _axes(name: str, ndim: int) -> tuple[list[str], list[int]]:
    """(what the axes are, their order in PyTorch)."""
    *_, module, leaf = ("", *name.split("."))
    default = (("channels",) * ndim, range(ndim))
    axes, torch = _AXES.get((leaf, ndim), default)
    if (leaf, ndim) == ("kernel", 4) and module.startswith("Depthwise"):
        axes, torch = _DEPTHWISE
    return list(axes), list(torch)


def _input(plain, shape: tuple[int, int, int]) -> dict:
    its = weights.input_of(plain, shape)
    return {
        "shape": list(its.shape),
        "mean": [float(f"{value:.6g}") for value in its.mean_C],
        "std": [float(f"{value:.6g}") for value in its.std_C],
    }
