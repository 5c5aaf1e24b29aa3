"""How a model is judged: sums over a data set, and what is reported of them."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssl_jax.core import Metrics, mean
from ssl_jax.losses import cross_entropy_per_example, unit_length


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


class EffectiveRank(struct.PyTreeNode):
    """How many directions features use: exp of the entropy of their singular values.

    RankMe (Garrido et al., arXiv:2210.02885, eq. 1), of features that are not centred:
    1 when all are the same up to length, at most D. Merges as sums, like a mean.
    """

    moment_DD: jax.Array  # sum of f f^T
    count: jax.Array

    @classmethod
    def of(cls, features_BD: jax.Array, mask_B: jax.Array) -> "EffectiveRank":
        """Of the rows where `mask_B`."""
        kept_BD = features_BD * mask_B[:, None]
        moment_DD = jnp.matmul(kept_BD.T, kept_BD, precision=jax.lax.Precision.HIGHEST)
        return cls(moment_DD=moment_DD, count=mask_B.sum().astype(jnp.float32))

    def compute(self) -> float:
        """On the host: an eigenvalue decomposition."""
        if not np.isfinite(self.moment_DD).all():
            return float("nan")
        eigenvalues_D = np.linalg.eigvalsh(np.asarray(self.moment_DD, np.float64))
        # Singular values below float32's noise in the moments are no direction.
        noise = eigenvalues_D.max() * np.finfo(np.float32).eps
        singular_D = np.sqrt(eigenvalues_D[eigenvalues_D > noise])
        share_D = singular_D / singular_D.sum()
        return float(np.exp(-(share_D * np.log(share_D)).sum()))


def projection_std(projections_BP: jax.Array) -> jax.Array:
    """Standard deviation over the batch of projections of length 1, mean over P.

    Times sqrt(P), so that projections spread over the sphere have about 1, and
    collapsed ones 0 (arXiv:2011.10566, section 4.1, plots it without the factor).
    """
    P = projections_BP.shape[-1]
    return unit_length(projections_BP).std(0).mean() * P**0.5


COLLAPSED = {"train/projection_std": 0.1, "test/effective_rank": 1.5}  # below these


def collapsed(row: dict) -> bool:
    """Whether an evaluation's row shows features or projections that say nothing."""
    if "test/effective_rank" not in row or row["train/loss"] is None:
        return False  # the message has both numbers; and diverged is not collapsed
    values = {key: row.get(key) for key in COLLAPSED}
    return any(v is not None and v < COLLAPSED[key] for key, v in values.items())


def collapse_message(row: dict) -> str:
    """What a collapsed row means, with its numbers."""
    numbers = ", ".join(
        f"{key} {row[key]:.3g} (collapsed below {bar:g})"
        for key, bar in COLLAPSED.items()
        if row.get(key) is not None
    )
    return (
        f"phase {row['phase']!r} has collapsed at step {row['step']}: {numbers}. Its "
        "features say next to nothing about the image: lower the learning rate, or "
        "look at the views."
    )


def reported(rows: list[dict]) -> dict:
    """The figures that papers report, from a phase's journal rows.

    accuracy: the last evaluation. accuracy_median20: the median of the last 20
    (FixMatch's protocol), or of all `evaluations` when fewer. accuracy_at_best_val: at
    the first evaluation with the best validation accuracy, None without a validation
    set. accuracy_best_on_test: chosen on the test set (TorchSSL's protocol), an
    oracle: only for a place beside a number that was chosen the same way.

    What else was measured on the test images is given as it was last; without
    accuracies (an autoencoder's phase), nothing else is.
    """
    last = {
        key.removeprefix("test/"): rows[-1][key]
        for key in rows[-1]
        if key.startswith("test/") and key not in ("test/accuracy", "test/loss")
    }
    evaluated = [row for row in rows if "test/accuracy" in row]
    if not evaluated:
        return last
    accuracies = [row["test/accuracy"] for row in evaluated]
    validated = [row for row in evaluated if "val/accuracy" in row]
    best = max(validated, key=lambda row: row["val/accuracy"], default=None)
    return {
        "accuracy": accuracies[-1],
        "accuracy_median20": float(np.median(accuracies[-20:])),
        "evaluations": len(accuracies),
        "accuracy_at_best_val": best and best["test/accuracy"],
        "accuracy_best_on_test": max(accuracies),
        **last,
    }


def stale(accuracies_E, losses_E, evaluations, *, patience: int, loss_window: int):
    """Whether a phase should stop after `evaluations` of its E validations.

    By `patience`: so many have not exceeded the best accuracy before them. By
    `loss_window`: the last loss is above the mean of so many before it (the rule of
    GCN's code, arXiv:1609.02907, whose loss has the weight decay's term as well). 0 of
    either: not by that. For arrays of NumPy, on the host, and of JAX, inside a compiled
    loop; what lies behind `evaluations` is ignored.
    """
    place_E = np.arange(len(accuracies_E))
    stop = evaluations < 0  # False, of either kind
    if patience:
        seen_E = accuracies_E * (place_E < evaluations)
        stop |= evaluations - 1 - seen_E.argmax() >= patience
    if loss_window:
        last = evaluations - 1
        window_E = (place_E >= last - loss_window) & (place_E < last)
        mean = (losses_E * window_E).sum() / loss_window
        rises = (losses_E * (place_E == last)).sum() > mean
        stop |= rises & (evaluations > loss_window + 1)
    return stop


def stopped_by(rows: list[dict], steps: int, *, patience: int, loss_window: int) -> str:
    """Why the phase with these rows ended: "steps", or the rule of `stale`."""
    if rows[-1]["step"] == steps:
        return "steps"
    accuracies_E, losses_E = (
        np.array([row[name] for row in rows if name in row])
        for name in ("val/accuracy", "val/loss")
    )
    by_patience = stale(
        accuracies_E, losses_E, len(losses_E), patience=patience, loss_window=0
    )
    return "patience" if by_patience else "loss_window"
