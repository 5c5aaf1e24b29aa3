"""Label spreading over the features of an encoder that others, or an earlier run, have
trained: a few labels flow along what it finds alike.

Labels flow as in label_spreading.py (Zhou et al., NIPS 2003), between each image and
its nearest neighbours. Features are compared as in SimpleShot (Wang, Chao, Weinberger
and van der Maaten, arXiv:1911.04623, section 2, "CL2N"): the mean of all is taken away,
and each is scaled to length 1, so that Euclidean distance is 2 - 2 cos.

Departures: from SimpleShot, the mean is over the pool, where it takes that of the
classes that the encoder was trained on, which nobody has here.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssl_jax.algorithms.label_spreading import LabelSpreading
from ssl_jax.algorithms.shared import frozen_encoder
from ssl_jax.augment.plain import Plain
from ssl_jax.core import Batch, PyTree, TrainState, on_every_device
from ssl_jax.core.ranges import Count, Range
from ssl_jax.graphs import distances


@dataclass(frozen=True, kw_only=True)
class FeatureSpreading(LabelSpreading):
    """`LabelSpreading` of rows that are features: `scale` is their length."""

    views_kind: ClassVar[str] = "plain"
    embeds: ClassVar[str] = "pool"
    model: nn.Module
    views: Plain
    kernel: str = "knn"  # or "rbf"
    # at most; where a class has fewer images, half of those: `lists`
    n_neighbors: Count = 20
    alpha: Annotated[float, Range(0, 1, without="low and high")] = 0.9

    begun = frozen_encoder.begun
    features = frozen_encoder.features

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        """Keeps the encoder, and of the pool its features and their graph.

        Raises:
          UserError: as `init_state`.
        """
        state = self.begun(key, batch, initial)
        features_ND = on_every_device(frozen_encoder.of_pool(self, state, batch))
        mask_N1 = on_every_device(batch["mask"])[:, None]
        features_ND = jnp.where(mask_N1, features_ND, 0)
        center_D = features_ND.sum(axis=0) / mask_N1.sum()
        spread = self.on_rows(_directions(features_ND, center_D), batch)
        return spread.replace(
            params={"encoder": state.params["encoder"]},
            model_state=state.model_state,
            extra={**spread.extra, "center_D": center_D},
        )

    def rows(self, state: TrainState, batch: Batch) -> jax.Array:
        """float32, of length 1."""
        return _directions(self.features(state, batch), state.extra["center_D"])

    def lists(self, num_rows: int) -> int:
        """`n_neighbors`, or half of a class's share of the pool: more would tie each
        image to those of other classes, and in a small folder all to all."""
        return min(self.n_neighbors, max(2, num_rows // (2 * self.num_classes)))

    def brightness(self, pixels_ND: jax.Array) -> jax.Array:
        return pixels_ND * self.scale

    def careful(self, num_pixels: int) -> bool:
        """Two rows are at most twice their length apart, and so is their mean."""
        farthest = 2 * self.gamma * (2 * self.scale) ** 2
        return bool(distances.is_far(np.float32(farthest), num_pixels))


def _directions(features_ND, center_D):
    centered_ND = features_ND - center_D[None, :]
    length_N1 = jnp.linalg.norm(centered_ND, axis=1, keepdims=True)
    return centered_ND / jnp.maximum(length_N1, 1e-12)
