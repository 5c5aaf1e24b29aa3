"""(algorithm, state, batches) -> numbers."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Algorithm, Batch, TrainState
from ssl_jax.core.metrics import classification_sums
from ssl_jax.errors import UserError
from ssl_jax.evaluate.protocol import Features
from ssl_jax.train.phases import Phase


def compile_features(phase: Phase) -> Callable[[TrainState, list[dict]], Features]:
    """extract(state, padded batches) -> features and labels on the host, unpadded.

    Raises:
      UserError: the phase's algorithm has no features.
    """
    if not hasattr(phase.algorithm, "features"):
        raise UserError(f"{phase.config.algorithm.name} learns no features to probe.")
    rows = NamedSharding(phase.mesh, P("data"))
    compiled = jax.jit(phase.algorithm.features)

    def extract(state, batches):
        with jax.set_mesh(phase.mesh):
            parts = [compiled(state, jax.device_put(b, rows)) for b in batches]
        kept = [np.asarray(b["mask"]) for b in batches]
        labels = [np.asarray(b["label"]) for b in batches]
        return tuple(
            np.concatenate([np.asarray(x)[k] for x, k in zip(part, kept, strict=True)])
            for part in (parts, labels)
        )

    return extract


def sums(algorithm: Algorithm, state: TrainState, batch: Batch, key: jax.Array):
    """(metric sums, counts_KK) of a padded batch; counts_KK is None for an algorithm
    that does not classify."""
    metrics, counts_KK = {}, None
    if hasattr(algorithm, "predict"):
        logits_BK = algorithm.predict(state, batch)
        metrics, counts_KK = classification_sums(
            logits_BK, batch["label"], batch["mask"]
        )
    if hasattr(algorithm, "eval_step"):
        metrics |= algorithm.eval_step(state, batch, key)
    return metrics, counts_KK


def compile_evaluation(phase: Phase) -> Callable:
    """evaluate(state, padded batches) -> `sums` of them all, on the device."""
    of_batch = jax.jit(lambda *args: sums(phase.algorithm, *args))

    def evaluate(state, batches):
        # The same keys at every evaluation, so that their difference is the state's.
        keys = jax.random.split(phase.key, len(batches))
        parts = [
            of_batch(state, jax.device_put(batch, phase.rows), key)
            for batch, key in zip(batches, keys, strict=True)
        ]
        return jax.tree.map(lambda *leaves: sum(leaves), *parts)

    return evaluate
