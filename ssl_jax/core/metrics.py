"""How good pseudo-labels are: sums that every method with pseudo-labels logs."""

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average
from flax import struct

from ssl_jax.core.contract import Metrics
from ssl_jax.core.losses import cross_entropy_per_example, unit_length

BINS = 15  # of confidence, as in Guo et al.'s experiments


class Calibration(struct.PyTreeNode):
    """How often predictions are right, by how sure they are. Merges as sums.

    Bin m = 1..BINS holds the confidences in ((m - 1) / BINS, m / BINS]
    (Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599).
    """

    sums_3M: jax.Array  # for each bin: images, their confidences, those right

    @classmethod
    def of(
        cls, confidence_U: jax.Array, right_U: jax.Array, mask_U: jax.Array
    ) -> "Calibration":
        """Of the images where `mask_U`; confidences are in [0, 1]."""
        bin_U = jnp.ceil(confidence_U * BINS).astype(jnp.int32) - 1
        in_bin_UM = jax.nn.one_hot(bin_U.clip(0, BINS - 1), BINS)
        sums_U3 = jnp.stack([jnp.ones_like(confidence_U), confidence_U, right_U], -1)
        return cls(sums_3M=_by_group(sums_U3 * mask_U[:, None], in_bin_UM))

    @property
    def count(self) -> jax.Array:
        return self.sums_3M[0].sum()

    def compute(self) -> dict[str, np.ndarray]:
        """On the host, by the names that they are logged under.

        ece: the expected calibration error, eq. 3: |accuracy - confidence|, mean over
        the images. reliability [BINS, 3]: each bin's images, and their mean confidence
        and accuracy (NaN without images).
        """
        count_M, confidence_M, right_M = np.asarray(self.sums_3M, np.float64)
        ece = np.abs(right_M - confidence_M).sum() / count_M.sum()
        some_M = np.where(count_M > 0, count_M, np.nan)
        rows = [count_M, confidence_M / some_M, right_M / some_M]
        return {"ece": ece, "reliability": np.stack(rows, -1)}


def pseudo_label_quality(
    probs_UK: jax.Array, weight_U: jax.Array, truth_U: jax.Array, threshold_K: jax.Array
) -> Metrics:
    """What can be said of a step's pseudo-labels: sums, to be added over steps.

    Args:
      probs_UK: the predictions that pseudo-labels were taken from; rows sum to 1, the
        largest is the pseudo-label's confidence.
      weight_U: of each pseudo-label in the loss, in [0, 1]; 0 is rejected, and a soft
        weight counts by its weight.
      truth_U: the label, or -1 where it is not known.
      threshold_K: the confidence that a pseudo-label of each class had to have.

    Returns:
      share_kept; kept_accuracy and rejected_accuracy, where the truth is known;
      kept_per_class and predicted_per_class [K], images a step; threshold_per_class
      [K]; calibration, of all whose truth is known.
    """
    probs_UK, weight_U, threshold_K = (
        jax.lax.stop_gradient(jnp.asarray(x, jnp.float32))
        for x in (probs_UK, weight_U, threshold_K)
    )
    pseudo_label_U = probs_UK.argmax(-1)
    known_U = truth_U >= 0
    right_U = (pseudo_label_U == truth_U).astype(jnp.float32)
    per_class_2K = _by_group(
        jnp.stack([weight_U, jnp.ones_like(weight_U)], -1),
        jax.nn.one_hot(pseudo_label_U, probs_UK.shape[-1]),
    )
    return {
        "share_kept": mean(weight_U),
        "kept_accuracy": mean(right_U, weight_U * known_U),
        "rejected_accuracy": mean(right_U, (1 - weight_U) * known_U),
        "kept_per_class": _of_a_step(per_class_2K[0]),
        "predicted_per_class": _of_a_step(per_class_2K[1]),
        "threshold_per_class": _of_a_step(threshold_K),
        "calibration": Calibration.of(probs_UK.max(-1), right_U, known_U),
    }


def _of_a_step(total_K):
    return Average(total=total_K, count=jnp.float32(1))


def _by_group(values_UV, in_group_UG):
    """Sums [V, G]: a product, as a scatter-add would gather what devices share."""
    return jnp.matmul(values_UV.T, in_group_UG, precision=jax.lax.Precision.HIGHEST)


def mean(values: jax.Array, mask: jax.Array | None = None) -> Average:
    """A metric that merges as sums: the mean of `values`, where `mask` if given."""
    if mask is None:
        mask = jnp.ones_like(values)
    mask = mask.astype(jnp.float32)
    return Average(total=(values * mask).sum(), count=mask.sum())


def classification_sums(
    logits_BK: jax.Array, labels_B: jax.Array, mask_B: jax.Array
) -> tuple[Metrics, jax.Array]:
    """Accuracy and loss as mergeable means, and counts_KK [truth, prediction], of which
    there is a `ByClass` as well.

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
        "by_class": ByClass(counts_KK),
    }
    return metrics, counts_KK


class ByClass(struct.PyTreeNode):
    """What every class counts alike in, however many images it has. Merges as sums."""

    counts_KK: jax.Array  # images, [truth, prediction]

    @property
    def count(self) -> jax.Array:
        return self.counts_KK.sum()

    def compute(self) -> dict[str, float]:
        """On the host, by the names that they are logged under, over the classes that
        have images.

        balanced_accuracy, the mean of each class's accuracy, its recall;
        geometric_mean, of the same: 0 where a class is never right; f1, the mean of 2
        right / (its images + those said to be of it).
        """
        counts_KK = np.asarray(self.counts_KK, np.float64)
        images_K, said_K = counts_KK.sum(1), counts_KK.sum(0)
        there_K = images_K > 0
        right_K, images_K, said_K = (
            of[there_K] for of in (np.diag(counts_KK), images_K, said_K)
        )
        recall_K = right_K / images_K
        return {
            "balanced_accuracy": float(recall_K.mean()),
            # Roots first: the product of a thousand classes' would be 0.
            "geometric_mean": float((recall_K ** (1 / len(recall_K))).prod()),
            "f1": float((2 * right_K / (images_K + said_K)).mean()),
        }


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
