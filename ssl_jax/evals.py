"""How a model is judged: sums over a data set, and what is reported of them."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.core import Metrics, mean
from ssl_jax.losses import cross_entropy_per_example


def classification_sums(
    logits_BK: jax.Array, labels_B: jax.Array, mask_B: jax.Array
) -> tuple[Metrics, jax.Array]:
    """Accuracy and loss as mergeable means, and counts_KK [truth, prediction].

    Rows where `mask_B` is False (padding) count nowhere.
    """
    num_classes = logits_BK.shape[-1]
    predicted_B = logits_BK.argmax(-1)
    truth_BK = jax.nn.one_hot(labels_B, num_classes) * mask_B[:, None]
    # Whole numbers: exact in float32 up to 16 million images a cell.
    counts_KK = jnp.matmul(
        truth_BK.T,
        jax.nn.one_hot(predicted_B, num_classes),
        precision=jax.lax.Precision.HIGHEST,
    )
    metrics = {
        "accuracy": mean(predicted_B == labels_B, mask_B),
        "loss": mean(cross_entropy_per_example(logits_BK, labels_B), mask_B),
    }
    return metrics, counts_KK


def reported(rows: list[dict]) -> dict:
    """The figures that papers report, from a phase's journal rows.

    accuracy: the last evaluation. accuracy_median20: the median of the last 20
    (FixMatch's protocol), or of all `evaluations` when fewer. accuracy_at_best_val: at
    the first evaluation with the best validation accuracy, None without a validation
    set. accuracy_best_on_test: chosen on the test set (TorchSSL's protocol), an
    oracle: only for a place beside a number that was chosen the same way.
    """
    evaluated = [row for row in rows if "test/accuracy" in row]
    accuracies = [row["test/accuracy"] for row in evaluated]
    validated = [row for row in evaluated if "val/accuracy" in row]
    best = max(validated, key=lambda row: row["val/accuracy"], default=None)
    return {
        "accuracy": accuracies[-1],
        "accuracy_median20": float(np.median(accuracies[-20:])),
        "evaluations": len(accuracies),
        "accuracy_at_best_val": best and best["test/accuracy"],
        "accuracy_best_on_test": max(accuracies),
    }


def evaluations_without_gain(rows: list[dict], metric: str) -> int:
    """Evaluations since `metric` last exceeded all before; what `patience` bounds."""
    values = [row[metric] for row in rows if metric in row]
    return len(values) - 1 - int(np.argmax(values)) if values else 0
