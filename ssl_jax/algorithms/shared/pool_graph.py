"""What label spreading and label propagation share: a graph of the whole pool, on which
labels flow from the granted ones.

The distributions are in state.extra["log_NK"], the logarithms of F; how they move is
the method's: its `train_step` says what is next, and ends with `moved`.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    mean,
    on_every_device,
)
from ssl_jax.core.ranges import Count, Positive, Weight
from ssl_jax.graphs import affinity, distances, neighbors, propagation
from ssl_jax.graphs.problem import UNLABELED, check_kernel


@dataclass(frozen=True, kw_only=True)
class PoolGraph(Algorithm):
    """All of an algorithm but its step. rbf in blocks, knn exact.

    Raises:
      UserError: a field is out of range.
    """

    draws_from: ClassVar[str] = "pool"
    views_kind: ClassVar[str] = ""
    loops: ClassVar[bool]  # W_ii = 1, and not 0
    num_classes: int
    kernel: str = "rbf"  # or "knn"
    gamma: Positive = 20.0  # of rbf
    n_neighbors: Count = 7  # of knn, the image itself among them
    # of the sum of |changes|: a step after one below changes nothing
    tol: Weight = 1e-3
    scale: Positive = 1.0  # of a white pixel; 16: digits as scikit-learn has them

    def __post_init__(self):
        check_kernel(self.kernel, self.gamma, self.n_neighbors)

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        """Keeps the pool, and of its graph what takes a pass over all pairs.

        Raises:
          UserError: the pool has fewer images than a row has neighbours.
        """
        images = on_every_device(batch["image"])
        return self.on_rows(images.reshape(len(images), -1), batch)

    def on_rows(self, pixels_ND: jax.Array, batch: Batch) -> TrainState:
        """`init`, of rows that are to be compared: the images' pixels, or what a method
        has in their place."""
        labels_N, mask_N = (on_every_device(batch[name]) for name in ("label", "mask"))
        labels_N = jnp.where(mask_N, labels_N, UNLABELED)
        labels_NK = jax.nn.one_hot(labels_N, self.num_classes)  # of -1, all 0
        graph = self.new_graph(pixels_ND, mask_N)
        passed = dict(log_degree_N=graph.log_degree_N, loop_N=graph.loop_N)
        if self.kernel == "knn":
            passed["index_Nk"] = graph.index_Nk
        extra = {
            "pixels_ND": pixels_ND,  # uint8: a quarter of the features
            "mask_N": mask_N,
            "labels_NK": labels_NK,
            "log_NK": jnp.log(labels_NK),  # of F
            "change": jnp.float32(jnp.inf),  # by the last step, summed
            "graph": passed,
        }
        return TrainState(
            step=jnp.int32(0), params={}, model_state={}, opt_state=(), extra=extra
        )

    def new_graph(self, pixels_ND: jax.Array, mask_N: jax.Array) -> affinity.Graph:
        """Of the pool: what is costly is then kept in the state."""
        if self.kernel == "rbf":
            z_ND = self.scaled(pixels_ND, pixels_ND, mask_N)
            careful = self.careful(z_ND.shape[1])
            return affinity.blocks(z_ND, mask_N, loops=self.loops, careful=careful)
        bank_ND = self.bank(pixels_ND, mask_N)
        _, index_Nk = neighbors.nearest(
            bank_ND, bank_ND, self.lists(len(bank_ND)), metric="euclidean"
        )
        return affinity.listed(index_Nk, mask_N, loops=self.loops)

    def lists(self, num_rows: int) -> int:
        """How many neighbours a row has, of so many rows."""
        return self.n_neighbors

    def graph(self, extra: PyTree) -> affinity.Graph:
        """The graph of a state, as `init` made it."""
        if self.kernel == "knn":
            return affinity.Neighbors(**extra["graph"])
        pixels_ND, mask_N = extra["pixels_ND"], extra["mask_N"]
        z_ND = self.scaled(pixels_ND, pixels_ND, mask_N)
        careful = self.careful(z_ND.shape[1])
        return affinity.Blocks(z_ND, **extra["graph"], careful=careful)

    def brightness(self, pixels_ND: jax.Array) -> jax.Array:
        return pixels_ND.astype(jnp.float32) * (self.scale / 255)

    def bank(self, pixels_ND: jax.Array, mask_N: jax.Array) -> jax.Array:
        """Where neighbours are looked for: padding is farther than any image can be."""
        far = -2 * self.scale
        return jnp.where(mask_N[:, None], self.brightness(pixels_ND), far)

    def scaled(
        self, new_MD: jax.Array, pixels_ND: jax.Array, mask_N: jax.Array
    ) -> jax.Array:
        """z of the new pixels around the pool's center (see graphs/affinity.py)."""
        share_N1 = mask_N[:, None] / mask_N.sum()
        center_D = (self.brightness(pixels_ND) * share_N1).sum(axis=0)
        centered_MD = self.brightness(new_MD) - center_D[None, :]
        return centered_MD * np.float32(np.sqrt(2 * self.gamma))

    def careful(self, num_pixels: int) -> bool:
        """Whether an image may be too far from the center for products of float32."""
        farthest = 2 * self.gamma * num_pixels * self.scale**2  # |z|^2, at most
        return bool(distances.is_far(np.float32(farthest), num_pixels))

    def transduce(self, state: TrainState) -> jax.Array:
        """Logarithms of the distributions of the pool's images, [N, K]: scikit-learn's
        `label_distributions_`. Of what no label reaches all are equal."""
        log_NK = state.extra["log_NK"]
        reached_N1 = jnp.isfinite(log_NK).any(axis=1, keepdims=True)
        return jax.nn.log_softmax(jnp.where(reached_N1, log_NK, 0))

    def predict(self, state: TrainState, batch: Batch) -> jax.Array:
        """Logarithms of the inductive rule's distributions, [B, K]."""
        extra, pixels_BD = state.extra, self.rows(state, batch)
        log_NK = extra["log_NK"]
        highest_N1 = log_NK.max(axis=1, keepdims=True)
        highest_N1 = jnp.where(jnp.isfinite(highest_N1), highest_N1, 0)
        values_NK = propagation.normalized(jnp.exp(log_NK - highest_N1))
        pixels_ND, mask_N = extra["pixels_ND"], extra["mask_N"]
        if self.kernel == "knn":
            bank_ND = self.bank(pixels_ND, mask_N)
            new_BD = self.brightness(pixels_BD)
            mean_BK = propagation.of_nearest(
                new_BD, bank_ND, values_NK, self.lists(len(bank_ND))
            )
        else:
            mean_BK = affinity.average(
                self.scaled(pixels_BD, pixels_ND, mask_N),
                self.scaled(pixels_ND, pixels_ND, mask_N),
                values_NK,
                mask_N,
                careful=self.careful(pixels_ND.shape[1]),
            )
        # Where no label reaches all are equal.
        return jnp.log(jnp.maximum(propagation.normalized(mean_BK), 1e-30))

    def features(self, state: TrainState, batch: Batch) -> jax.Array:
        """The pixels, as the graph compares them, [B, D]."""
        return self.brightness(self.rows(state, batch))

    def rows(self, state: TrainState, batch: Batch) -> jax.Array:
        """Of new images, what is kept of the pool's, [B, D]: here uint8 pixels."""
        return batch["image"].reshape(len(batch["image"]), -1)


def moved(
    state: TrainState, log_NK: jax.Array, tol: float
) -> tuple[TrainState, Metrics]:
    """The state with its next distributions, unless it has converged, and what is said
    of the step."""
    extra = state.extra
    log_NK = jnp.where(extra["change"] < tol, extra["log_NK"], log_NK)
    change_N = jnp.abs(jnp.exp(log_NK) - jnp.exp(extra["log_NK"])).sum(axis=1)
    labeled_N = extra["labels_NK"].any(axis=1)
    right_N = log_NK.argmax(1) == extra["labels_NK"].argmax(1)
    metrics = {
        "loss": jax.lax.stop_gradient(mean(change_N, extra["mask_N"])),
        "accuracy": mean(right_N, labeled_N),
    }
    change = jnp.where(extra["mask_N"], change_N, 0).sum()
    extra = {**extra, "log_NK": log_NK, "change": change}
    return state.replace(step=state.step + 1, extra=extra), metrics
