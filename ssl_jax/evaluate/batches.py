"""Padded batches through an algorithm: metric sums, and features on the host."""

from collections.abc import Callable, Iterable

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


def sums(
    algorithm: Algorithm, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[Metrics, jax.Array | None]:
    """(metric sums, counts_KK) of a padded batch; counts_KK is None for an algorithm
    that does not classify."""
    metrics, counts_KK = {}, None
    if can(algorithm, "predict"):
        logits_BK = algorithm.predict(state, batch)
        metrics, counts_KK = classification_sums(
            logits_BK, batch["label"], batch["mask"]
        )
    if can(algorithm, "eval_step"):
        metrics |= algorithm.eval_step(state, batch, key)
    return metrics, counts_KK


def compile_evaluation(
    algorithm: Algorithm, rows: NamedSharding, key: jax.Array
) -> Callable:
    """evaluate(state, padded batches) -> `sums` of them all, on the device.

    Args:
      rows: how a batch lies on the devices.
      key: of every evaluation alike, so that their difference is the state's.
    """
    everywhere = None if rows.is_fully_addressable else NamedSharding(rows.mesh, P())
    of_batch = one_at_a_time(
        jax.jit(lambda *args: sums(algorithm, *args), out_shardings=everywhere)
    )

    def evaluate(state, batches):
        keys = jax.random.split(key, len(batches))
        parts = [
            of_batch(state, place(batch, rows), key)
            for batch, key in zip(batches, keys, strict=True)
        ]
        return jax.tree.map(lambda *leaves: sum(leaves), *parts)

    return evaluate


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
