"""What a run found: a line for whoever starts it, and the same facts in result.json."""

from collections.abc import Mapping

import numpy as np

from ssl_jax.data import splits
from ssl_jax.data.loading import Data
from ssl_jax.data.streams import Images

_SHOWN = 20  # classes in the line


def facts(data: Data, image_size: int = 0) -> dict:
    """What there is, as JSON holds it.

    Args:
      image_size: that images were to be brought to; 0: none.

    Returns:
      name; classes, {name: images whose label is granted} (none where no image has a
      label); how many are unlabeled (no
      label is granted), validate and test; of images, shape [H, W, C], sizes, the
      smallest and the largest side of the files in pixels (None: not known), and
      cropped, whether they were brought to that shape; streamed, where they stay in
      their files; of a graph, nodes.
    """
    dataset, split, nodes = data.dataset, data.split, data.source.nodes
    labels_n = dataset.labels_N[split.labeled]
    counts_K = np.bincount(labels_n, minlength=len(dataset.class_names))
    found = {
        "name": dataset.name,
        "classes": dict(zip(dataset.class_names, counts_K.tolist(), strict=True)),
        "unlabeled": len(splits.candidates(split)),
        "validation": len(split.validation),
        "test": len(dataset.test_labels_M) if nodes is None else len(nodes.test),
    }
    if nodes is not None:
        return found | {"nodes": len(nodes.labels_N)}
    shape = dataset.images_NHWC.shape[1:]
    extent = min(shape[:2]), max(shape[:2])
    found |= {
        "shape": list(shape),
        "sizes": dataset.sizes and list(dataset.sizes),
        "cropped": image_size > 0 and dataset.sizes != extent,
    }
    streamed = isinstance(dataset.images_NHWC, Images)
    return found | ({"streamed": True} if streamed else {})


def line(found: Mapping) -> str:
    """`facts` as `3 classes: cat (10), ...; 400 unlabeled; 200 test; 32x32 RGB`."""
    counts = [f"{name} ({count:,})" for name, count in found["classes"].items()]
    more = [f"and {len(counts) - _SHOWN:,} more"] if len(counts) > _SHOWN else []
    classes = f"{len(counts):,} classes: {', '.join(counts[:_SHOWN] + more)}"
    parts = [classes if counts else "no classes", f"{found['unlabeled']:,} unlabeled"]
    if found["validation"]:
        parts.append(f"{found['validation']:,} to validate")
    parts.append(f"{found['test']:,} test")
    if "nodes" in found:
        return "; ".join([*parts, f"a graph of {found['nodes']:,} nodes"])
    height, width, channels = found["shape"]
    form = f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
    if found["cropped"]:
        form = f"brought to {form}, centre crop"
        if found["sizes"]:
            low, high = found["sizes"]
            form = f"{low}{f' to {high}' if high > low else ''} px, {form}"
    if "streamed" in found:
        form = f"{form}, streamed"
    return "; ".join([*parts, form])
