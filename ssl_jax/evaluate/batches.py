"""Padded batches through an algorithm: metric sums, and what it says of each image and
its features on the host."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    TrainState,
    can,
    fetch,
    one_at_a_time,
    place,
)
from ssl_jax.core.metrics import classification_sums

Features = tuple[np.ndarray, np.ndarray]  # features_ND float32, labels_N int32
Said = tuple[np.ndarray, np.ndarray]  # logits_MK float32, labels_M int32


class Evaluation(NamedTuple):
    """Two functions of (state, padded batches), of one compiled program."""

    sums: Callable  # (metric sums, counts_KK or None) of them all, on the device
    said: Callable  # `Said`, unpadded, on the host, of an algorithm that classifies


def sums(
    algorithm: Algorithm, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[Metrics, jax.Array | None, jax.Array | None]:
    """(metric sums, counts_KK, logits_BK) of a padded batch; the last two are None for
    an algorithm that does not classify."""
    metrics, counts_KK, logits_BK = {}, None, None
    if can(algorithm, "predict"):
        logits_BK = algorithm.predict(state, batch)
        metrics, counts_KK = classification_sums(
            logits_BK, batch["label"], batch["mask"]
        )
    if can(algorithm, "eval_step"):
        metrics |= algorithm.eval_step(state, batch, key)
    return metrics, counts_KK, logits_BK


def compile_evaluation(
    algorithm: Algorithm, rows: NamedSharding, key: jax.Array
) -> Evaluation:
    """What is measured on held-out images, by the weights that should be judged.

    Args:
      rows: how a batch lies on the devices.
      key: of every evaluation alike, so that their difference is the state's.
    """
    everywhere = None if rows.is_fully_addressable else NamedSharding(rows.mesh, P())
    of_batch = one_at_a_time(
        jax.jit(lambda *args: sums(algorithm, *args), out_shardings=everywhere)
    )

    def each(state, batches):
        keys = jax.random.split(key, len(batches))
        for batch, one in zip(batches, keys, strict=True):
            yield batch, of_batch(state, place(batch, rows), one)

    def of_all(state, batches):
        parts = [of_it[:2] for _, of_it in each(state, batches)]
        return jax.tree.map(lambda *leaves: sum(leaves), *parts)

    def said(state, batches):
        logits, labels = [], []
        for batch, (_, _, logits_BK) in each(state, batches):
            mask_B = fetch(batch["mask"])
            logits.append(fetch(logits_BK)[mask_B].astype(np.float32))
            labels.append(fetch(batch["label"])[mask_B])
        return np.concatenate(logits), np.concatenate(labels)

    return Evaluation(of_all, said)


def compile_features(
    algorithm: Algorithm, mesh: Mesh
) -> Callable[[TrainState, Iterable[Batch]], Features]:
    """extract(state, padded batches) -> features and labels on the host, unpadded, of
    an algorithm that has features."""
    rows = NamedSharding(mesh, P("data"))
    compiled = one_at_a_time(jax.jit(algorithm.features))

    def extract(state, batches):
        parts, labels, kept = [], [], []
        with jax.set_mesh(mesh):
            for batch in batches:  # once: a stream's are read anew each time
                parts.append(compiled(state, place(batch, rows)))
                labels.append(fetch(batch["label"]))
                kept.append(fetch(batch["mask"]))
        parts = fetch(parts)
        return tuple(
            np.concatenate([x[k] for x, k in zip(part, kept, strict=True)])
            for part in (parts, labels)
        )

    return extract
