"""Images that stay in their files: decoded when they are asked for, ahead by threads.

`Images` looks like the array that it stands for, `images_NHWC[rows]` reads those rows,
and nothing keeps them. `gathered` is how whoever wants many has them: grain's threads
read ahead, in pieces, so that memory is the same after any number. Threads and not
processes, because Pillow and zlib decode outside the GIL, and a thread costs no start,
no second JAX and no copy (experiments/speed/stream_speed.py has both).
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from ssl_jax.errors import UserError

_PIECE, _PIECE_BYTES = 256, 2**22  # that a thread reads at a time, at most: images
_CALLS = 64  # whose rows are remembered
_AHEAD = 2  # pieces a thread: one to read while another waits to be taken

Index = int | slice | np.ndarray


class Images:
    """uint8 images_NHWC of which only shape and type are in memory.

    Args:
      read: rows -> image_HWC of each, in order; threads call it at the same time.
      shape: (N, H, W, C).
      name: of the data set, for messages.
      workers: threads of `gathered`; 0: one for each core that this process has.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        read: Callable[[Sequence[int]], Iterable[np.ndarray]],
        shape: tuple[int, int, int, int],
        name: str,
        workers: int = 0,
    ):
        self._read, self.shape, self.name = read, shape, name
        self.workers = workers or _cores()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, index: Index) -> np.ndarray:
        """Images of these rows, [*index.shape, H, W, C].

        Raises:
          UserError: an image cannot be decoded; the message names it.
        """
        N, *shape = self.shape
        if isinstance(index, slice):
            index = np.arange(*index.indices(N))
        index = np.asarray(index)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        if index.size and not -N <= index.min() <= index.max() < N:
            raise IndexError(f"{self.name} has {N:,} images: {index} is outside.")
        rows = (index.ravel() % max(N, 1)).tolist()
        images = np.empty((len(rows), *shape), np.uint8)
        for image_HWC, read in zip(images, self._read(rows), strict=True):
            image_HWC[:] = read
        return images.reshape(*index.shape, *shape)

    def __array__(self, dtype=None, copy=None):
        raise UserError(
            f"the images of {self.name} are streamed, {self.nbytes / 1e9:.1f} GB that "
            "are not in memory, and what is asked of them here needs all at once: use "
            "data.placement='host'."
        )


class Calls(Sequence):
    """Of each call, the rows that it sees, in one index, for `gathered`.

    Args:
      steps: the first of each call.
      entries_of: step -> arrays by name, a pure function.
      names: of those that are rows.
    """

    def __init__(
        self,
        steps: Sequence[int],
        entries_of: Callable[[int], dict[str, np.ndarray]],
        names: Sequence[str],
    ):
        self._steps, self._names = steps, names
        # Threads ask for those of a call once for each of its pieces.
        self.entries = lru_cache(_CALLS)(entries_of)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, call: int) -> np.ndarray:
        entries = self.entries(self._steps[call])
        return np.concatenate([entries[name].ravel() for name in self._names])

    def apart(
        self, images: np.ndarray, entries: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """images[entries[name]] by name, of the images of a call."""
        apart, start = {}, 0
        for name in self._names:
            shape = entries[name].shape
            end = start + math.prod(shape)
            apart[name] = images[start:end].reshape(*shape, *images.shape[1:])
            start = end
        return apart


class _Pieces:
    """Every index in pieces, one after the other, as a source of grain's.

    Args:
      rows: of an index.
      piece: rows, at most.
    """

    def __init__(
        self, images_NHWC: Images, indices: Sequence[np.ndarray], rows: int, piece: int
    ):
        self._images_NHWC, self._indices, self._piece = images_NHWC, indices, piece
        self._of_index = -(-rows // piece)

    def __len__(self) -> int:
        return len(self._indices) * self._of_index

    def __getitem__(self, number: int) -> np.ndarray:
        at, part = divmod(int(number), self._of_index)
        start = part * self._piece
        index = self._indices[at].ravel()[start : start + self._piece]
        return self._images_NHWC[index]


def gathered(
    images_NHWC: np.ndarray | Images, indices: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """images_NHWC[index] of each of `indices`, in order.

    Of a stream, threads read ahead, until the iterator is exhausted or closed.

    Args:
      indices: all of one shape; of a stream, threads ask for each, some several times.

    Raises:
      UserError: an image cannot be decoded; the message names it.
    """
    if not isinstance(images_NHWC, Images) or not len(indices):
        yield from (images_NHWC[indices[i]] for i in range(len(indices)))
        return
    shape, image_shape = indices[0].shape, images_NHWC.shape[1:]
    piece = min(max(_PIECE_BYTES // math.prod(image_shape), 1), _PIECE)
    rows = math.prod(shape)
    source = _Pieces(images_NHWC, indices, rows, piece)
    with contextlib.closing(_read_ahead(source, images_NHWC.workers)) as pieces:
        for _ in range(len(indices)):
            images = np.empty((rows, *image_shape), np.uint8)
            for start in range(0, rows, piece):
                images[start : start + piece] = next(pieces)
            yield images.reshape(*shape, *image_shape)


def _read_ahead(source, threads):
    """An iterator over `source`, to be closed."""
    # Here because it takes two seconds, which a run without a stream need not pay.
    import grain

    options = grain.ReadOptions(threads, _AHEAD * threads)
    return iter(grain.MapDataset.source(source).to_iter_dataset(options))


def _cores():
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
