"""What MixMatch and ReMixMatch share: MixUp over a whole batch.

Berthelot et al., "MixMatch: A Holistic Approach to Semi-Supervised Learning",
arXiv:1905.02249; equation numbers are the paper's. G is the number of images in a row:
a labeled one, and every view of the unlabeled ones that go with it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ssl_jax.core import Metrics
from ssl_jax.core.metrics import pseudo_label_quality


def by_rows(labeled_B: jax.Array, *views_U: jax.Array) -> jax.Array:
    """A labeled batch [B, ...] and views of an unlabeled one [U, ...] as [B, G, ...].

    U is a multiple of B. A row is labeled image b, then of each view the images
    b * U / B up to (b + 1) * U / B. Both batches are split over devices by rows, so
    each device joins what it has.
    """
    B = len(labeled_B)
    groups = [x.reshape(B, -1, *x.shape[1:]) for x in (labeled_B, *views_U)]
    return jnp.concatenate(groups, axis=1)


def flat(images_BGHWC: jax.Array) -> jax.Array:
    """[B * G, H, W, C], for a network; every image stays on its device."""
    return images_BGHWC.reshape(-1, *images_BGHWC.shape[2:])


def mixup(
    key: jax.Array, images_BGHWC: jax.Array, target_BGK: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Each image and its target with another of the batch (eqs. 8-11):

    lambda ~ Beta(alpha, alpha); lambda' = max(lambda, 1 - lambda)
    x' = lambda' x_1 + (1 - lambda') x_2;  p' = lambda' p_1 + (1 - lambda') p_2

    The pairs, from `partners`, and lambda are functions of the key and the shape only.

    Args:
      alpha: above 0; 1e-3 is close to not mixed at all.
    """
    B, G = images_BGHWC.shape[:2]
    key_partner, key_share = jax.random.split(key)
    partner_BG = partners(key_partner, B, G)
    share_BG = shares(key_share, (B, G), alpha)

    def mixed(values_BG):
        cells = (-1, _rows_of_a_cell(B) * G)
        local = partner_BG.reshape(cells) % cells[1]
        # One gather a cell: one over the batch would exchange it between devices.
        values = values_BG.reshape(*cells, *values_BG.shape[2:])
        other_BG = jax.vmap(lambda v, i: v[i])(values, local).reshape(values_BG.shape)
        share = share_BG.reshape(B, G, *(1 for _ in values_BG.shape[2:]))
        return share * values_BG + (1 - share) * other_BG

    return mixed(images_BGHWC), mixed(target_BGK)


def partners(key: jax.Array, B: int, G: int) -> jax.Array:
    """Whom each image is mixed with, [B, G]: row * G + group, each exactly once.

    The paper shuffles the whole batch, which would move images between devices. Here
    rows trade within cells of 4: each with another row of its cell, at random, and the
    groups of the two in a random order. Rows are random draws from the data already,
    so a neighbour is as good a partner as any; labeled and unlabeled meet as often as
    in a shuffle. A row never trades with itself: an image would meet itself or its own
    other views in one of 6 draws, where the whole batch has it in one of 100.

    Cells stay on one device where each has a multiple of 4 rows. With fewer the result
    is the same, but images do move; a B that 4 does not divide is one cell.
    """
    c = _rows_of_a_cell(B)
    key_row, key_group = jax.random.split(key)
    onwards_B = jnp.repeat(jax.random.randint(key_row, (B // c,), 1, c), c)
    row_B = jnp.arange(B)
    cell_B = row_B // c * c
    partner_B = cell_B + (row_B - cell_B + onwards_B) % c
    groups_BG = jnp.broadcast_to(jnp.arange(G)[None, :], (B, G))
    groups_BG = jax.random.permutation(key_group, groups_BG, axis=1, independent=True)
    return partner_B[:, None] * G + groups_BG


def shares(key: jax.Array, shape: tuple[int, ...], alpha: float) -> jax.Array:
    """lambda' = max(lambda, 1 - lambda) of lambda ~ Beta(alpha, alpha), by inverting
    its distribution on [1/2, 1], in steps of 1/4096.

    jax.random.beta takes seconds to compile, and rejects until the devices agree.
    """
    steps = 4096
    at_least = special.betaincinv(alpha, alpha, np.linspace(0.5, 1.0, steps + 1))
    position = jax.random.uniform(key, shape) * steps
    i = position.astype(jnp.int32)
    low, high = (
        jnp.asarray(edge, jnp.float32)[i] for edge in (at_least[:-1], at_least[1:])
    )
    return low + (position - i) * (high - low)


def quality(probs_UK: jax.Array, truth_U: jax.Array) -> Metrics:
    """`pseudo_label_quality` of guesses that are all kept."""
    U, K = probs_UK.shape
    return pseudo_label_quality(probs_UK, jnp.ones(U), truth_U, jnp.zeros(K))


def _rows_of_a_cell(B):
    return B if B % 4 else 4
