"""Which rows a step sees, and how they reach the device: rows times transport.

    rows        labeled, labeled_as, unlabeled; and_unlabeled adds unlabeled ones
    transport   on_device, from_host, from_stream; whole, of the same batch every step

Everything is a pure function of (seed, step): there is no iterator to checkpoint, and
a resumed run sees what the undisturbed one would have seen. `build` chooses.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Batch, own_rows, place, send
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.loading import Data
from ssl_jax.data.placement import Pool, padded_batches
from ssl_jax.data.splits import Split, hidden
from ssl_jax.data.streams import Calls, Images, gathered
from ssl_jax.errors import UserError

LABELED, UNLABELED = 0, 1  # streams of permutations under one seed

Entries = dict[str, np.ndarray]


class Feed(NamedTuple):
    """How a phase's batches come about; `item` is what travels each call."""

    arrays: Any  # device arrays that stay: the pool, the graph, or nothing
    items: Callable[[int, int], Iterator[Any]]  # (first step, end) -> device items
    batch: Callable[[Any, Any], Batch]  # (arrays, one step's item) -> batch; compiled
    num_rows: int = 0  # of the one batch that every step sees, where it is one


class Rows(NamedTuple):
    """What a step sees, whichever way it travels."""

    at: Callable[[int], Entries]  # step -> arrays [batch, ...]; a pure function
    # The entries that are rows of the training pool, whose images and labels are
    # gathered by the device or the host.
    gathered: tuple[str, ...]
    # (images, truths, entries) -> batch, compiled: images [batch, H, W, C] and labels
    # [batch] of each entry that is gathered, and all entries.
    batch: Callable[[Batch, Batch, Batch], Batch]


class Labels(NamedTuple):
    """A labeled set that is not just the split's: of N images, some of them pseudo-
    labeled (self_training), some perhaps repeated."""

    index_N: np.ndarray  # int32, into the training pool
    label_N: np.ndarray  # int32
    probs_NK: np.ndarray  # float32: soft labels


class Draw(NamedTuple):
    """What a phase asks of its steps; sizes are over all devices."""

    # "labeled"; or "unlabeled": the batch_size images come from the unlabeled set, and
    # the label is -1 where the split does not grant it; or "pool" or "graph": every
    # step sees all labeled and unlabeled images, or the graph.
    draws_from: str
    batch_size: int  # images a step; 0: all at once
    unlabeled_ratio: int  # unlabeled images beside labeled ones, in units of batch_size
    steps_per_call: int  # steps whose rows travel at once
    seed: int
    phase: str = "train"  # whose fields messages name


def build(data: Data, mesh: Mesh, draw: Draw, labels: Labels | None = None) -> Feed:
    """The batches of a phase.

    Where the pool is on the device, indices are sent and the step gathers; where it is
    not, rows are gathered, or decoded, here and images sent, two calls ahead.

    Args:
      labels: the labeled set instead of the split's; the batch then has label_probs
        [batch_size, K] as well, and its labels are these alone.

    Raises:
      UserError: a batch has more unlabeled images than there are; the message has
        what would fit. Or a step sees all images, and they stay in their files.
    """
    if draw.draws_from == "graph":
        return whole(data.graph, draw.steps_per_call)
    streamed = isinstance(data.dataset.images_NHWC, Images)
    if draw.draws_from == "pool" and streamed:
        raise UserError(
            f"a step of {draw.phase} sees all images, and those of "
            f"{data.dataset.name} are streamed: use data.placement='host', or a method "
            "that learns from batches."
        )
    if draw.draws_from == "pool":
        return whole(all_rows(data.dataset, data.split, mesh), draw.steps_per_call)
    _check_enough(data.split, draw, mesh.size)
    rows = _rows(data, draw, labels)
    if streamed:
        return from_stream(rows, data.dataset, mesh, draw.steps_per_call)
    if data.pool is None:
        return from_host(rows, data.dataset, mesh, draw.steps_per_call)
    return on_device(rows, data.pool, mesh, draw.steps_per_call)


def _rows(data: Data, draw: Draw, labels: Labels | None) -> Rows:
    """What `draw` asks for of images."""
    split, batch = data.split, dict(seed=draw.seed, batch=draw.batch_size)
    batch_U = draw.batch_size * draw.unlabeled_ratio
    if draw.draws_from == "unlabeled":
        return unlabeled(split, **batch)
    rows = labeled(split, **batch) if labels is None else labeled_as(labels, **batch)
    if not batch_U:
        return rows
    return and_unlabeled(rows, split, seed=draw.seed, batch=batch_U)


def _check_enough(split: Split, draw: Draw, num_devices: int) -> None:
    """Raises UserError where a step takes more unlabeled images than there are."""
    there, size, phase = len(split.unlabeled), draw.batch_size, draw.phase
    beside = draw.draws_from == "labeled"
    ratio = draw.unlabeled_ratio if beside else 1
    if size * ratio <= there:
        return
    fields = f"{phase}.batch_size={size}"
    if beside:
        fields += f", {phase}.unlabeled_ratio={ratio}"
    step = f"a step takes {size * ratio} unlabeled images ({fields}), and there"
    if not there:
        raise UserError(
            f"{step} are none: give the run some (data.unlabeled names a folder's), "
            "have the labeled ones among them, by data.labeled_in_unlabeled=True, or "
            f"learn from labels alone, by {phase}.algorithm.name=supervised.Supervised "
            f"and {phase}.unlabeled_ratio=0."
        )
    fitting = [there // size] if beside else []
    fits = [f"{phase}.unlabeled_ratio={value}" for value in fitting if value]
    if smaller := there // ratio // num_devices * num_devices:
        fits.append(f"{phase}.batch_size={smaller}")
    remedy = " or ".join(fits) or "fewer devices"
    raise UserError(f"{step} are {there}: use {remedy}, or more images.")


# Rows.


def labeled(split: Split, *, seed: int, batch: int) -> Rows:
    """image and label of `batch` labeled images, and their positions in that set as
    index."""
    index_N = split.labeled

    def at(step: int) -> Entries:
        position = labeled_at(step, seed=seed, size=len(index_N), batch=batch)
        return {"drawn": index_N[position], "index": position}

    def to_batch(images, truths, entries):
        index = entries["index"]
        return {"image": images["drawn"], "label": truths["drawn"], "index": index}

    return Rows(at, ("drawn",), to_batch)


def labeled_as(labels: Labels, *, seed: int, batch: int) -> Rows:
    """image, label, label_probs [batch, K] and index of `batch` images of `labels`."""

    def at(step: int) -> Entries:
        position = labeled_at(step, seed=seed, size=len(labels.index_N), batch=batch)
        return {
            "drawn": labels.index_N[position],
            "index": position,
            "label": labels.label_N[position],
            "label_probs": labels.probs_NK[position],
        }

    def to_batch(images, truths, entries):
        given = {name: entries[name] for name in ("label", "label_probs", "index")}
        return {"image": images["drawn"], **given}

    return Rows(at, ("drawn",), to_batch)


def unlabeled(split: Split, *, seed: int, batch: int) -> Rows:
    """image and label of `batch` images of the unlabeled set; the label is -1 where the
    split does not grant it."""
    size = len(split.unlabeled)
    granted_N = np.isin(split.unlabeled, split.labeled)

    def at(step: int) -> Entries:
        position = unlabeled_at(step, seed=seed, size=size, batch=batch)
        return {"drawn": split.unlabeled[position], "granted": granted_N[position]}

    def to_batch(images, truths, entries):
        label = jnp.where(entries["granted"], truths["drawn"], -1)
        return {"image": images["drawn"], "label": label}

    return Rows(at, ("drawn",), to_batch)


def and_unlabeled(rows: Rows, split: Split, *, seed: int, batch: int) -> Rows:
    """`rows`, and `batch` images of the unlabeled set: unlabeled_image, their truth as
    unlabeled_label, and their positions in that set as unlabeled_index.

    The truth is there to judge pseudo-labels by, so it is -1 where the label is granted
    (`splits.hidden`): the network has learned it, or is chosen by it.
    """
    hidden_N = hidden(split)

    def at(step: int) -> Entries:
        position = unlabeled_at(step, seed=seed, size=len(hidden_N), batch=batch)
        more = {
            "unlabeled": split.unlabeled[position],
            "position": position,
            "hidden": hidden_N[position],
        }
        return rows.at(step) | more

    def to_batch(images, truths, entries):
        return rows.batch(images, truths, entries) | {
            "unlabeled_image": images["unlabeled"],
            "unlabeled_label": jnp.where(entries["hidden"], truths["unlabeled"], -1),
            "unlabeled_index": entries["position"],
        }

    return Rows(at, (*rows.gathered, "unlabeled"), to_batch)


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


@lru_cache(maxsize=32)
def permutation(seed: int, stream: int, epoch: int, size: int) -> np.ndarray:
    """The order of `size` rows in an epoch, int32; on the host, because a permutation
    of 50,000 inside the compiled step costs 17 ms on a CPU."""
    rng = np.random.default_rng([seed, stream, epoch])
    return rng.permutation(size).astype(np.int32)


def granted(dataset: Dataset, split: Split) -> Labels:
    """The split's labeled set, its soft labels one-hot."""
    label_N = np.asarray(dataset.labels_N[split.labeled], np.int32)
    probs_NK = np.eye(len(dataset.class_names), dtype=np.float32)[label_N]
    return Labels(split.labeled, label_N, probs_NK)


# Transports: items have leaves [steps_per_call, batch, ...], split over the devices.


def on_device(rows: Rows, pool: Pool, mesh: Mesh, steps_per_call: int) -> Feed:
    """The entries travel; images and labels are gathered from the pool on the device,
    inside the step."""
    sharding = NamedSharding(mesh, P(None, "data"))

    def items(first, end):
        for step in range(first, end, steps_per_call):
            yield send(_call_entries(rows, step, steps_per_call, mesh), sharding)

    def batch(pool, entries):
        images, truths = (_gathered(rows, array, entries) for array in pool)
        return rows.batch(images, truths, entries)

    return Feed(pool, items, batch)


def from_host(rows: Rows, dataset: Dataset, mesh: Mesh, steps_per_call: int) -> Feed:
    """Images and labels are gathered here by another thread, and travel two calls
    ahead."""
    sharding = NamedSharding(mesh, P(None, "data"))

    def sent(step):
        entries = _call_entries(rows, step, steps_per_call, mesh)
        images = _gathered(rows, dataset.images_NHWC, entries)
        truths = _gathered(rows, dataset.labels_N, entries)
        return send((images, truths, entries), sharding)

    def items(first, end):
        return _ahead(sent, range(first, end, steps_per_call))

    return Feed((), items, lambda _, item: rows.batch(*item))


def from_stream(rows: Rows, dataset: Dataset, mesh: Mesh, steps_per_call: int) -> Feed:
    """As `from_host`, of images that stay in their files (`streams.Images`), which more
    threads decode ahead."""
    sharding = NamedSharding(mesh, P(None, "data"))

    def items(first, end):
        of_call = dict(steps_per_call=steps_per_call, mesh=mesh)
        entries_of = partial(_call_entries, rows, **of_call)
        steps = range(first, end, steps_per_call)
        calls = Calls(steps, entries_of, rows.gathered)

        def sent(step):
            entries = calls.entries(step)
            images = calls.apart(next(decoded), entries)
            truths = _gathered(rows, dataset.labels_N, entries)
            return send((images, truths, entries), sharding)

        with contextlib.closing(gathered(dataset.images_NHWC, calls)) as decoded:
            yield from _ahead(sent, steps)

    return Feed((), items, lambda _, item: rows.batch(*item))


def _ahead(sent: Callable[[int], Any], steps: Sequence[int]) -> Iterator[Any]:
    """sent(step) of each, by another thread."""
    ahead = 2  # one being copied while another waits, so the device never does
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(sent, step) for step in steps[:ahead])
        try:
            for call in range(len(steps)):
                item = waiting.popleft().result()
                if call + ahead < len(steps):
                    waiting.append(thread.submit(sent, steps[call + ahead]))
                yield item
        finally:
            for future in waiting:
                future.cancel()


def whole(batch: Batch, steps_per_call: int) -> Feed:
    """The same batch at every step, with mask [N]; nothing travels."""

    def items(first, end):
        for _ in range(first, end, steps_per_call):
            yield np.zeros((steps_per_call, 0), np.int32)

    num_rows = int(batch["mask"].sum())
    return Feed(batch, items, lambda batch, _: batch, num_rows)


def all_rows(dataset: Dataset, split: Split, mesh: Mesh) -> Batch:
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
    return place(batch, NamedSharding(mesh, P("data")))


def _call_entries(rows: Rows, step: int, steps_per_call: int, mesh: Mesh) -> Entries:
    """[steps_per_call, batch, ...] of each entry, of the batch this process's rows."""
    steps = [rows.at(step + i) for i in range(steps_per_call)]
    entries = {name: np.stack([of[name] for of in steps]) for name in steps[0]}
    return {
        name: of_all[:, own_rows(mesh, of_all.shape[1])]
        for name, of_all in entries.items()
    }


def _gathered(rows: Rows, array, entries):
    return {name: array[entries[name]] for name in rows.gathered}
