"""What MixMatch and ReMixMatch share: MixUp over a whole batch. And MixUp or CutMix of
labeled images alone, for supervised training.

Berthelot et al., "MixMatch: A Holistic Approach to Semi-Supervised Learning",
arXiv:1905.02249; equation numbers are the paper's. G is the number of images in a row:
a labeled one, and every view of the unlabeled ones that go with it.
"""

from functools import partial

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
        other_BG = traded(values_BG, partner_BG)
        share = share_BG.reshape(B, G, *(1 for _ in values_BG.shape[2:]))
        return share * values_BG + (1 - share) * other_BG

    return mixed(images_BGHWC), mixed(target_BGK)


def mixed_or_cut(
    key: jax.Array,
    images_BHWC: jax.Array,
    labels_B: jax.Array,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each labeled image with another one of the batch: (images_BHWC, the others'
    labels_B, lambda_B), for a loss of lambda loss(own) + (1 - lambda) loss(other).

    MixUp (arXiv:1710.09412, section 2): lambda ~ Beta(alpha, alpha) of every pixel is
    the image's own. CutMix (arXiv:1905.04899, section 3.1): a box of the area 1 -
    lambda comes from the other image, and lambda is then the share of pixels that are
    its own. With both, one of the two in each step, either as likely.

    Images may be normalised, as they are in the authors' codes: either mixture of
    normalised images is the mixture, normalised. Those codes shuffle the batch and draw
    one lambda, and one box, for all of it; here are `partners`, and each image has a
    lambda of its own. MixUp's is lambda' = max(lambda, 1 - lambda), which makes the
    same mixtures, as partners are drawn evenly: each is named after its larger part.

    Args:
      mixup_alpha, cutmix_alpha: at least one above 0; one at 0 is never done.
    """
    B, *size, _ = images_BHWC.shape
    key_partner, key_which, key_mixed, key_cut = jax.random.split(key, 4)
    ways = []  # own_BHW: of each pixel, the part that is the image's own
    if mixup_alpha:
        lambda_B = shares(key_mixed, (B,), mixup_alpha)
        ways.append(jnp.broadcast_to(lambda_B[:, None, None], (B, *size)))
    if cutmix_alpha:
        ways.append(_around_boxes(key_cut, (B, *size), cutmix_alpha))
    first, last = ways[0], ways[-1]
    own_BHW = jnp.where(jax.random.bernoulli(key_which), first, last)
    partner_B1 = partners(key_partner, B, 1)
    other_BHWC, other_B = (
        traded(values[:, None], partner_B1)[:, 0] for values in (images_BHWC, labels_B)
    )
    own_BHW1 = own_BHW[..., None]
    images_BHWC = own_BHW1 * images_BHWC + (1 - own_BHW1) * other_BHWC
    return images_BHWC, other_B, own_BHW.mean((1, 2))


def _around_boxes(key, shape, alpha):
    """CutMix's own_BHW, of lambda ~ Beta(alpha, alpha)."""
    key_share, key_place = jax.random.split(key)
    lambda_B = shares(key_share, shape[:1], alpha)
    place_B3 = jax.random.uniform(key_place, (shape[0], 3))
    # Beta is symmetric; an image with a box is not its partner with one.
    lambda_B = jnp.where(place_B3[:, 0] < 0.5, lambda_B, 1 - lambda_B)
    return jax.vmap(partial(around_a_box, size=shape[1:]))(lambda_B, place_B3[:, 1:])


def around_a_box(share, center_2: jax.Array, size: tuple[int, int]) -> jax.Array:
    """own_HW: 0 in a box of the area 1 - share of an image, 1 around it.

    As `rand_bbox` in clovaai/CutMix-PyTorch (train.py at 5ee7b8d): the box has the
    image's proportions and an even number of pixels a side, its centre is a pixel, and
    what reaches over the border is cut off.

    Args:
      center_2: where it is, in parts of the image's sides, [0, 1).
      size: (H, W).
    """
    sides_2 = np.array(size, np.float32)
    half_2 = jnp.floor(sides_2 * jnp.sqrt(1 - share)) // 2
    center_2 = jnp.floor(center_2 * sides_2)

    def inside(axis):
        offset = np.arange(size[axis]) - center_2[axis]
        return (-half_2[axis] <= offset) & (offset < half_2[axis])

    return 1.0 - (inside(0)[:, None] & inside(1)[None, :])


def traded(values_BG: jax.Array, partner_BG: jax.Array) -> jax.Array:
    """The partners' values, [B, G, ...], for indices by `partners`."""
    B, G = partner_BG.shape
    cells = (-1, _rows_of_a_cell(B) * G)
    local = partner_BG.reshape(cells) % cells[1]
    # One gather a cell: one over the batch would exchange it between devices.
    values = values_BG.reshape(*cells, *values_BG.shape[2:])
    return jax.vmap(lambda v, i: v[i])(values, local).reshape(values_BG.shape)


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
