"""How good pseudo-labels are: sums that every method with pseudo-labels logs."""

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average
from flax import struct

from ssl_jax.core import Metrics, mean

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


def quality(
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
