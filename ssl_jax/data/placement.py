"""Where images lie: the training pool on the devices or not, whole sets in batches."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Batch, processes
from ssl_jax.core import place as placed
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.streams import Images, gathered
from ssl_jax.errors import UserError
from ssl_jax.workdir import logs

Pool = tuple[jax.Array, jax.Array]  # images_NHWC uint8, labels_N int32

WORDS = ("auto", "device", "host", "stream")
EVAL_BATCH = 512  # images
_OF_MEMORY = 0.6  # of what is free: as much may images on the host take
_MEMINFO = Path("/proc/meminfo")


def streams(placement: str, nbytes: int) -> bool:
    """Whether images of so many bytes, none of which is decoded yet, are to stay in
    their files: by "stream", or by "auto" where they would take more than 60% of the
    host's free memory, which is then said."""
    if placement != "auto":
        return placement == "stream"
    free = processes.of_first(free_memory)
    if nbytes <= _OF_MEMORY * free:
        return False
    logs.say(
        f"the images take {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are "
        "free: they stay in their files (data.placement='stream')"
    )
    return True


def free_memory() -> int:
    """Bytes that the host could give; all it has, where it does not say."""
    if _MEMINFO.exists():  # Linux
        fields = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
        return 1024 * int(fields["MemAvailable"].split()[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def place(dataset: Dataset, placement: str, mesh: Mesh) -> Pool | None:
    """The pool on every device of the mesh, or None where it stays on the host.

    Args:
      placement: "device", "host", "stream", or "auto": on the device where the images
        take at most 40% of its memory. Images that stay in their files stay there.

    Raises:
      UserError: "stream", and they are in memory.
    """
    if isinstance(dataset.images_NHWC, Images):
        return None
    if placement == "stream":
        raise UserError(
            f"data.placement='stream', and the images of {dataset.name} are in memory "
            "already: use auto, device or host."
        )
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
    images_NHWC: np.ndarray | Images,
    labels_N: np.ndarray,
    *,
    batch: int,
    num_devices: int,
    of: np.ndarray | None = None,
) -> Sequence[Batch]:
    """A data set as batches of one size, the last one padded, on the host.

    Each has image, label and mask [batch]: False where a row is padding. Sets smaller
    than `batch` are padded only to a multiple of the devices. Of a stream, images are
    read as a batch is asked for.

    Args:
      of: the rows that are meant; None: all.
    """
    of = np.arange(len(labels_N)) if of is None else of
    batch = min(batch, len(of))
    batch += -batch % num_devices
    rows, rest = [], []
    for start in range(0, len(of), batch):
        places = np.arange(start, start + batch)
        mask = places < len(of)
        # Other images as padding, where a batch's statistics count.
        rows.append(of[places % len(of)])
        rest.append({"label": labels_N[rows[-1]], "mask": mask})
    batches = _Batches(images_NHWC, rows, rest)
    return batches if isinstance(images_NHWC, Images) else list(batches)


class _Batches(Sequence):
    """Of `padded_batches`: images are read at each time anew."""

    def __init__(self, images_NHWC, rows: list[np.ndarray], rest: list[Batch]):
        self._images_NHWC, self._rows, self._rest = images_NHWC, rows, rest

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Batch:
        image_BHWC = self._images_NHWC[self._rows[number]]
        return {"image": image_BHWC, **self._rest[number]}

    def __iter__(self) -> Iterator[Batch]:
        images = gathered(self._images_NHWC, self._rows)
        for image_BHWC, rest in zip(images, self._rest, strict=True):
            yield {"image": image_BHWC, **rest}
