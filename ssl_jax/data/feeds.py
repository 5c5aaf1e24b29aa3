"""Which rows a step sees, and how they reach the device.

Everything is a pure function of (seed, step): there is no iterator to checkpoint, and
a resumed run sees what the undisturbed one would have seen.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Batch
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError

Pool = tuple[jax.Array, jax.Array]  # images_NHWC uint8, labels_N int32

LABELED, UNLABELED = 0, 1  # streams of permutations under one seed


@lru_cache(maxsize=32)
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


class Labels(NamedTuple):
    """A labeled set that is not just the split's: of N images, some of them pseudo-
    labeled (self_training), some perhaps repeated."""

    index_N: np.ndarray  # int32, into the training pool
    label_N: np.ndarray  # int32
    probs_NK: np.ndarray  # float32: soft labels


def granted(dataset: Dataset, split: Split) -> Labels:
    """The split's labeled set, its soft labels one-hot."""
    label_N = np.asarray(dataset.labels_N[split.labeled], np.int32)
    probs_NK = np.eye(len(dataset.class_names), dtype=np.float32)[label_N]
    return Labels(split.labeled, label_N, probs_NK)


class Feed(NamedTuple):
    """How a phase's batches come about; `item` is what travels each call."""

    arrays: Any  # device arrays that stay: the pool, the graph, or nothing
    items: Callable[[int, int], Iterator[Any]]  # (first step, end) -> device items
    batch: Callable[[Any, Any], Batch]  # (arrays, one step's item) -> batch; compiled
    num_rows: int = 0  # of the one batch that every step sees, where it is one


def build(
    dataset: Dataset,
    split: Split,
    pool: Pool | None,
    *,
    mesh: Mesh,
    seed: int,
    draws_from: str,
    batch_size: int,
    unlabeled_ratio: int,
    steps_per_call: int,
    labels: Labels | None = None,
    graph: Batch | None = None,
) -> Feed:
    """Batches of `batch_size` images and `unlabeled_ratio` times as many unlabeled.

    Args:
      draws_from: "labeled", or "unlabeled": the `batch_size` images come from the
        unlabeled set, and the label is -1 where `split` does not grant it; or "pool" or
        "graph": every step sees all labeled and unlabeled images, or `graph`.
      pool: from `place`. On the device, indices are sent and the step gathers; without
        one, rows are gathered here and images sent, two calls ahead.
      labels: the labeled set instead of the split's; the batch then has label_probs
        [batch_size, K] as well, and its labels are these alone.

    Raises:
      UserError: more unlabeled images in a batch than there are.
    """
    if draws_from == "graph":
        return _whole(graph, steps_per_call)
    if draws_from == "pool":
        return _whole(_all_rows(dataset, split, mesh), steps_per_call)
    batch_U = batch_size * unlabeled_ratio
    largest_U = batch_size if draws_from == "unlabeled" else batch_U
    if largest_U > len(split.unlabeled):
        raise UserError(
            f"a batch of {largest_U} unlabeled images (batch_size={batch_size}, "
            f"unlabeled_ratio={unlabeled_ratio}) exceeds the {len(split.unlabeled)} "
            "that there are; lower either."
        )
    granted_N = np.isin(np.arange(len(dataset.labels_N)), split.labeled)

    def rows(step: int) -> dict[str, np.ndarray]:
        if draws_from == "unlabeled":
            drawn = unlabeled_at(
                step, seed=seed, size=len(split.unlabeled), batch=batch_size
            )
            drawn = split.unlabeled[drawn]
            return {"drawn": drawn, "granted": granted_N[drawn]}
        index_N = split.labeled if labels is None else labels.index_N
        labeled = labeled_at(step, seed=seed, size=len(index_N), batch=batch_size)
        chosen = {"drawn": index_N[labeled]}
        if labels is not None:
            chosen["label"] = labels.label_N[labeled]
            chosen["label_probs"] = labels.probs_NK[labeled]
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

    def to_batch(images, truths, chosen):
        batch = {"image": images["drawn"], "label": truths["drawn"]}
        if labels is not None:
            batch |= {name: chosen[name] for name in ("label", "label_probs")}
        if draws_from == "unlabeled":
            label = jnp.where(chosen["granted"], batch["label"], -1)
            return batch | {"label": label}
        if batch_U:
            batch |= {
                "unlabeled_image": images["unlabeled"],
                "unlabeled_label": truths["unlabeled"],
                "unlabeled_index": chosen["position"],
            }
        return batch

    def take(array, chosen):
        return {k: array[chosen[k]] for k in ("drawn", "unlabeled") if k in chosen}

    sharding = NamedSharding(mesh, P(None, "data"))
    if pool is not None:

        def items(first, end):
            for step in range(first, end, steps_per_call):
                yield jax.device_put(call_rows(step), sharding)

        def batch(pool, item):
            images, truths = pool
            return to_batch(take(images, item), take(truths, item), item)

        return Feed(pool, items, batch)

    def send(step):
        chosen = call_rows(step)
        images = take(dataset.images_NHWC, chosen)
        truths = take(dataset.labels_N, chosen)
        return jax.device_put((images, truths, chosen), sharding)

    def items(first, end):
        ahead = 2  # one being copied while another waits, so the device never does
        starts = range(first, end, steps_per_call)
        with ThreadPoolExecutor(1) as thread:
            waiting = deque(thread.submit(send, step) for step in starts[:ahead])
            for call in range(len(starts)):
                item = waiting.popleft().result()
                if call + ahead < len(starts):
                    waiting.append(thread.submit(send, starts[call + ahead]))
                yield item

    return Feed((), items, lambda _, item: to_batch(*item))


def _whole(batch: Batch, steps_per_call: int) -> Feed:
    """The same batch at every step."""

    def items(first, end):
        for _ in range(first, end, steps_per_call):
            yield np.zeros((steps_per_call, 0), np.int32)

    num_rows = int(batch["mask"].sum())
    return Feed(batch, items, lambda batch, _: batch, num_rows)


def _all_rows(dataset: Dataset, split: Split, mesh: Mesh) -> Batch:
    """The labeled and the unlabeled images, padded to divide over the devices: image,
    label, -1 where it is not granted, and mask, False where a row is padding."""
    index_N = np.union1d(split.labeled, split.unlabeled)
    granted_N = np.isin(index_N, split.labeled)
    label_N = np.where(granted_N, dataset.labels_N[index_N], -1).astype(np.int32)
    (batch,) = padded_batches(
        dataset.images_NHWC[index_N],
        label_N,
        batch=len(index_N),
        # A state of so many rows goes on, on 1 to 16 devices alike.
        num_devices=math.lcm(16, mesh.size),
    )
    return jax.device_put(batch, NamedSharding(mesh, P("data")))


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


def place(dataset: Dataset, placement: str, mesh: Mesh) -> Pool | None:
    """The pool on every device of the mesh, or None where it stays on the host.

    Args:
      placement: "device", "host", or "auto": on the device where the images take at
        most 40% of its memory.
    """
    if placement == "auto":
        # A CPU's memory is the host's, and memory_stats() says nothing there.
        stats = mesh.devices.flat[0].memory_stats() or {"bytes_limit": 8 * 2**30}
        fits = dataset.images_NHWC.nbytes <= 0.4 * stats["bytes_limit"]
        placement = "device" if fits else "host"
    if placement == "host":
        return None
    pool = np.asarray(dataset.images_NHWC), np.asarray(dataset.labels_N)
    return jax.device_put(pool, NamedSharding(mesh, P()))


def check_placement(placement: str) -> None:
    """Raises UserError unless `place` knows the word."""
    if placement not in ("auto", "device", "host"):
        raise UserError(
            f"data.placement={placement!r} is unknown; choose auto, device or host."
        )


EVAL_BATCH = 512  # images
