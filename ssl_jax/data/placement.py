"""Where images lie: the training pool on the devices or not, whole sets in batches."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import place as placed
from ssl_jax.core import processes
from ssl_jax.data.dataset import Dataset

Pool = tuple[jax.Array, jax.Array]  # images_NHWC uint8, labels_N int32

WORDS = ("auto", "device", "host")
EVAL_BATCH = 512  # images


def place(dataset: Dataset, placement: str, mesh: Mesh) -> Pool | None:
    """The pool on every device of the mesh, or None where it stays on the host.

    Args:
      placement: "device", "host", or "auto": on the device where the images take at
        most 40% of its memory.
    """
    if placement == "auto":
        placement = processes.of_first(lambda: _roomy(dataset, mesh))
    if placement == "host":
        return None
    pool = np.asarray(dataset.images_NHWC), np.asarray(dataset.labels_N)
    return placed(pool, NamedSharding(mesh, P()))


def _roomy(dataset, mesh):
    """Its word: the device where the images take at most 40% of its memory."""
    # A CPU's memory is the host's, and memory_stats() says nothing there.
    stats = mesh.devices.flat[0].memory_stats() or {"bytes_limit": 8 * 2**30}
    fits = dataset.images_NHWC.nbytes <= 0.4 * stats["bytes_limit"]
    return "device" if fits else "host"


def padded_batches(
    images_NHWC: np.ndarray, labels_N: np.ndarray, *, batch: int, num_devices: int
) -> list[dict[str, np.ndarray]]:
    """A data set as batches of one size, the last one padded, on the host.

    Each has image, label and mask [batch]: False where a row is padding. Sets smaller
    than `batch` are padded only to a multiple of the devices.
    """
    batch = min(batch, len(images_NHWC))
    batch += -batch % num_devices
    batches = []
    for start in range(0, len(images_NHWC), batch):
        rows = np.arange(start, start + batch)
        mask = rows < len(images_NHWC)
        rows %= len(images_NHWC)  # other images, where a batch's statistics count
        batches.append(
            {"image": images_NHWC[rows], "label": labels_N[rows], "mask": mask}
        )
    return batches
