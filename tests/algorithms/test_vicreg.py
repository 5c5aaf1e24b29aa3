"""VICReg and Barlow Twins against float64 transcriptions."""

import jax
import numpy as np
import pytest

import two_halves
from ssl_jax.algorithms.barlow_twins import BarlowTwins
from ssl_jax.algorithms.vicreg import VICReg
from two_halves import encode, mlp


def vicreg(z, z_):
    """main_vicreg.py, loop by loop: mse_loss, var and cov as PyTorch defines them."""
    n, d = z.shape
    loss = 25 * ((z - z_) ** 2).sum() / (n * d)
    for each in (z, z_):
        each = each - each.mean(0)
        std = np.sqrt((each**2).sum(0) / (n - 1) + 0.0001)
        loss += 25 * np.maximum(0, 1 - std).mean() / 2
        cov = each.T @ each / (n - 1)
        off = [cov[i, j] for i in range(d) for j in range(d) if i != j]
        loss += np.square(off).sum() / d
    return loss


def barlow_twins(z, z_):
    """Eq. 1 and 2, feature by feature."""
    n, d = z.shape
    z, z_ = ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in (z, z_))
    c = [[(z[:, i] * z_[:, j]).sum() / n for j in range(d)] for i in range(d)]
    on = sum((1 - c[i][i]) ** 2 for i in range(d))
    off = sum(c[i][j] ** 2 for i in range(d) for j in range(d) if i != j)
    return on + 0.0051 * off


@pytest.mark.parametrize(
    "cls, transcribed", [(VICReg, vicreg), (BarlowTwins, barlow_twins)]
)
def test_one_update_is_the_papers(cls, transcribed):
    given = two_halves.batch(8)
    algorithm = two_halves.build(cls)
    views = two_halves.halves(given)

    def loss(params):
        z = [mlp(encode(x, params), params["projector"]) for x in views]
        return transcribed(*z)

    state = algorithm.init(jax.random.key(0), given)
    state = state.replace(params=two_halves.moved(state.params, 1))
    projector = state.params["projector"]
    assert projector["Dense_2"].keys() == {"kernel"} and "Dense_3" not in projector
    two_halves.assert_one_update_is(
        algorithm, state, given, loss, {"encoder", "projector"}
    )
