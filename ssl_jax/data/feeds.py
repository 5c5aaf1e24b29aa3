"""Which rows a step sees, and how they reach the device.

Everything is a pure function of (seed, step): there is no iterator to checkpoint, and
a resumed run sees what the undisturbed one would have seen.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Batch, UserError
from ssl_jax.data.sources import Dataset
from ssl_jax.data.splits import Split

LABELED, UNLABELED = 0, 1  # streams of permutations under one seed


@lru_cache(maxsize=8)
def permutation(seed: int, stream: int, epoch: int, size: int) -> np.ndarray:
    """The order of `size` rows in an epoch, int32; on the host, because a permutation
    of 50,000 inside the compiled step costs 17 ms on a CPU."""
    rng = np.random.default_rng([seed, stream, epoch])
    return rng.permutation(size).astype(np.int32)


def labeled_at(step: int, *, seed: int, size: int, batch: int) -> np.ndarray:
    """Positions in the labeled set, [batch]: epoch after epoch without a gap, so that
    a batch may be larger than the set."""
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs, offsets = np.divmod(positions, size)
    rows = np.empty(batch, np.int32)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = permutation(seed, LABELED, int(epoch), size)[offsets[here]]
    return rows


def unlabeled_at(step: int, *, seed: int, size: int, batch: int) -> np.ndarray:
    """Positions in the unlabeled set, [batch]: none twice in a batch, because an
    epoch's last, incomplete batch is left out."""
    epoch, place = divmod(step, size // batch)
    order = permutation(seed, UNLABELED, epoch, size)
    return order[place * batch : (place + 1) * batch]


class Feed(NamedTuple):
    """How a phase's batches come about; `item` is what travels each call."""

    arrays: Any  # device arrays that stay: the pool, or nothing
    items: Callable[[int, int], Iterator[Any]]  # (first step, end) -> device items
    batch: Callable[[Any, Any], Batch]  # (arrays, one step's item) -> batch; compiled


def build(
    dataset: Dataset,
    split: Split,
    *,
    mesh: Mesh,
    seed: int,
    batch_size: int,
    unlabeled_ratio: int,
    steps_per_call: int,
    placement: str,
) -> Feed:
    """Batches of `batch_size` labeled and `unlabeled_ratio` times as many unlabeled.

    Args:
      placement: "device" keeps the pool on every device and sends indices; "host"
        gathers rows here and sends images, two calls ahead; "auto" is "device" where
        the pool takes at most 40% of a device's memory.

    Raises:
      UserError: a batch that does not divide over the devices, or more unlabeled
        images in a batch than there are.
    """
    batch_U = batch_size * unlabeled_ratio
    _check(batch_size, batch_U, len(split.unlabeled), mesh.size)

    def rows(step: int) -> dict[str, np.ndarray]:
        labeled = labeled_at(step, seed=seed, size=len(split.labeled), batch=batch_size)
        chosen = {"labeled": split.labeled[labeled]}
        if batch_U:
            position = unlabeled_at(
                step, seed=seed, size=len(split.unlabeled), batch=batch_U
            )
            chosen |= {"unlabeled": split.unlabeled[position], "position": position}
        return chosen

    def call_rows(step: int) -> dict[str, np.ndarray]:
        """[steps_per_call, batch] of each."""
        steps = [rows(step + i) for i in range(steps_per_call)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)

    def to_batch(images, labels, chosen):
        batch = {"image": images["labeled"], "label": labels["labeled"]}
        if batch_U:
            batch |= {
                "unlabeled_image": images["unlabeled"],
                "unlabeled_label": labels["unlabeled"],
                "unlabeled_index": chosen["position"],
            }
        return batch

    def take(pool, chosen):
        return {k: pool[chosen[k]] for k in ("labeled", "unlabeled") if k in chosen}

    sharding = NamedSharding(mesh, P(None, "data"))
    if place(dataset, placement) == "device":
        replicated = NamedSharding(mesh, P())
        arrays = jax.device_put(
            (np.asarray(dataset.images_NHWC), np.asarray(dataset.labels_N)), replicated
        )

        def items(first, end):
            for step in range(first, end, steps_per_call):
                yield jax.device_put(call_rows(step), sharding)

        def batch(arrays, item):
            images, labels = arrays
            return to_batch(take(images, item), take(labels, item), item)

        return Feed(arrays, items, batch)

    def send(step):
        chosen = call_rows(step)
        images = take(dataset.images_NHWC, chosen)
        labels = take(dataset.labels_N, chosen)
        return jax.device_put((images, labels, chosen), sharding)

    def items(first, end):
        ahead = 2  # one being copied while another waits, so the device never does
        starts = range(first, end, steps_per_call)
        with ThreadPoolExecutor(1) as pool:
            waiting = deque(pool.submit(send, step) for step in starts[:ahead])
            for call in range(len(starts)):
                item = waiting.popleft().result()
                if call + ahead < len(starts):
                    waiting.append(pool.submit(send, starts[call + ahead]))
                yield item

    return Feed((), items, lambda _, item: to_batch(*item))


def padded_batches(
    images_NHWC: np.ndarray, labels_N: np.ndarray, *, batch: int, mesh: Mesh
) -> list[Batch]:
    """A data set as batches of one size on the devices, the last one padded.

    Each has image, label and mask [batch]: False where a row is padding. Sets smaller
    than `batch` are padded only to a multiple of the devices.
    """
    batch = min(batch, len(images_NHWC))
    batch += -batch % mesh.size
    sharding = NamedSharding(mesh, P("data"))
    batches = []
    for start in range(0, len(images_NHWC), batch):
        rows = np.arange(start, start + batch)
        mask = rows < len(images_NHWC)
        rows[~mask] = 0
        part = {"image": images_NHWC[rows], "label": labels_N[rows], "mask": mask}
        batches.append(jax.device_put(part, sharding))
    return batches


def place(dataset: Dataset, placement: str) -> str:
    """ "device" or "host"; "auto" by size.

    Raises:
      UserError: another word.
    """
    if placement in ("device", "host"):
        return placement
    if placement != "auto":
        raise UserError(
            f"data.placement={placement!r} is unknown; choose auto, device or host."
        )
    # A CPU's "device memory" is the host's, and memory_stats() says nothing there.
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    return "device" if dataset.images_NHWC.nbytes <= 0.4 * limit else "host"


def _check(batch_size, batch_U, num_unlabeled, num_devices):
    if batch_size % num_devices:
        raise UserError(
            f"batch_size={batch_size} does not divide over {num_devices} devices; "
            f"use a multiple of {num_devices}."
        )
    if batch_U > num_unlabeled:
        raise UserError(
            f"a batch of {batch_U} unlabeled images (batch_size * unlabeled_ratio) "
            f"exceeds the {num_unlabeled} that there are; lower either."
        )
