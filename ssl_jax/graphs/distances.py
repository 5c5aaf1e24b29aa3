"""Rows of real numbers, where they lie, and distances that no rounding spoils.

|x - y|^2 = |x|^2 + |y|^2 - 2 xy is one matrix product, and rounds at the scale of
|x|^2: where rows lie far from their center and near each other, nothing is left of it.
The sum of (x - y)^2 rounds at its own scale and takes ten times as long. So products
come first, with a bound of what they may be wrong by (`neighbors`, `affinity`), and
differences where that is too much.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError

_ORDINARY = (2.0**-40, 2.0**40)  # of the largest number: its square is float32's
_LARGEST = 1e150  # whose square float64 holds
_OUTLYING = 100  # times the median distance to the mean, which then is no center
_SAMPLE = 1024  # rows whose median is the center instead
_FEATURES = 16  # whose squares are added in one pass over the distances
# Of the logarithm of a weight, by `is_far`.
_TOLERANCE = {np.dtype(np.float32): 1 / 8, np.dtype(np.float64): 1e-6}


def real(values, what: str = "features") -> np.ndarray:
    """The values as float32, where that holds them and their squares, or float64.

    Raises:
      UserError: they are no real numbers, or sparse.
    """
    if hasattr(values, "toarray"):  # SciPy's sparse matrices, which it need not import
        raise UserError(
            f"{what} are a sparse matrix of shape {values.shape}: give {what}.toarray()"
            ", or fewer columns by sklearn.decomposition.TruncatedSVD."
        )
    values = np.asarray(values)
    if values.dtype.kind == "c":
        raise UserError(
            f"{what} are {values.dtype}, and distances are of real numbers: give real "
            "and imaginary parts as columns of their own."
        )
    if values.dtype.kind in "mM":
        raise UserError(
            f"{what} are {values.dtype}: give numbers, such as values.astype('int64'), "
            "in a unit that suits the other columns."
        )
    if not np.can_cast(values.dtype, np.float32):
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{what} are {values.dtype}, not numbers ({error}): give each category "
                "a column of 0 and 1."
            ) from error
    values = (
        values if values.dtype == np.float64 else values.astype(np.float32, copy=False)
    )
    largest = _largest(values)
    if _LARGEST < largest < np.inf:
        raise UserError(
            f"{what} up to {largest:.3g}: the squares of such overflow; divide them, "
            f"say by {largest:.0e}, and for kernel='rbf' multiply gamma by its square."
        )
    return values if _ordinary(largest) else values.astype(np.float64)


def exponent(*rows: np.ndarray) -> int:
    """e such that float32 holds the values of `real` divided by 2^e, and their squares:
    0 for ordinary ones, which stay as they are to the bit."""
    wide = [values for values in rows if values.dtype == np.float64]
    largest = max(map(_largest, wide), default=0)
    return 0 if _ordinary(largest) else int(np.frexp(largest)[1])


def _ordinary(largest):
    """So, too, where there is nothing to scale: 0, infinity and NaN."""
    return not 0 < largest < np.inf or _ORDINARY[0] <= largest <= _ORDINARY[1]


def _largest(values):
    with np.errstate(invalid="ignore"):  # of NaN
        return float(max(values.max(initial=0), -values.min(initial=0)))


def center(features_ND: np.ndarray) -> np.ndarray:
    """center_D, float64: the mean; or where a row is far from all others, which draws
    the mean away from them, the median of some rows."""
    mean_D = features_ND.mean(axis=0, dtype=np.float64)
    if not outlying(features_ND, mean_D).any():
        return mean_D
    some_SD = features_ND[:: -(-len(features_ND) // _SAMPLE)]
    return np.median(some_SD, axis=0).astype(np.float64)


def outlying(features_ND: np.ndarray, center_D: np.ndarray) -> np.ndarray:
    """Which rows are _OUTLYING times as far from the center as half of them are: N."""
    square_N, center_D = np.empty(len(features_ND)), center_D.astype(features_ND.dtype)
    for start in range(0, len(features_ND), _SAMPLE):
        block = slice(start, start + _SAMPLE)
        difference_BD = features_ND[block] - center_D[None, :]
        square_N[block] = np.einsum("bd,bd->b", difference_BD, difference_BD)
    return square_N > _OUTLYING**2 * np.median(square_N)


def squares(rows_BD: jax.Array, others_CD: jax.Array) -> jax.Array:
    """sum_d (x_d - y_d)^2 of all pairs, [B, C]: in memory, too."""

    def by_features(rows):
        padded = jnp.pad(rows, ((0, 0), (0, -rows.shape[1] % _FEATURES)))
        return padded.T.reshape(-1, _FEATURES, len(rows))

    def add(sum_BC, features):
        rows_GB, others_GC = features
        part_BC = 0
        for x_B, y_C in zip(rows_GB, others_GC, strict=True):
            part_BC += (x_B[:, None] - y_C[None, :]) ** 2
        return sum_BC + part_BC, None

    zeros_BC = jnp.zeros((len(rows_BD), len(others_CD)), rows_BD.dtype)
    features = (by_features(rows_BD), by_features(others_CD))
    return jax.lax.scan(add, zeros_BC, features)[0]


def is_far(square_N, num_features: int):
    """Of the |z|^2 of rows as affinity.py has them: where the logarithm of a weight, by
    a product, may be wrong by more than is to be seen.

    Rounding errors are random walks: of D terms they come to about sqrt(D) of one
    (Higham and Mary, SIAM J. Sci. Comput. 41, 2019).
    """
    rounding = np.sqrt(num_features) * jnp.finfo(square_N.dtype).eps / 2
    return square_N > _TOLERANCE[np.dtype(square_N.dtype)] / rounding
