"""Similarities that a matrix says: of a kernel that the caller computed, or a graph's
adjacency."""

import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.graphs import affinity, sparse


def checked(weights, num_columns: int | None = None):
    """The weights as float64, an array or a SciPy matrix in coordinates; row i has what
    i hears from each of the columns.

    Args:
      num_columns: None: a graph, as many columns as rows and two or more of them.

    Raises:
      UserError: they are no such matrix, negative, or not finite.
    """
    if hasattr(weights, "tocoo"):
        weights = weights.tocoo().astype(np.float64)
        values = weights.data
    else:
        weights = values = np.asarray(weights, np.float64)
    shape = weights.shape
    square = len(shape) == 2 and shape[0] == shape[1] >= 2
    if num_columns is None and not square:
        raise UserError(
            f"weights of shape {shape} are no graph: give a row and a column for each "
            "of two or more points; of features, take kernel='rbf' or 'knn'."
        )
    if num_columns is not None and (len(shape) != 2 or shape[1] != num_columns):
        raise UserError(
            f"weights of shape {shape} for a graph of {num_columns:,} points: give new "
            "points a row each, with a column for each point of the graph."
        )
    if not np.isfinite(values).all():
        raise UserError("weights hold NaN or infinity: give finite ones, 0 for none.")
    if (values < 0).any():
        raise UserError(
            f"Negative values in data, such as {values.min():.4g}: weights are "
            "similarities, 0 or more; of distances make them by np.exp(-gamma * "
            "distances**2), say."
        )
    return weights


def graph(weights_NN, *, loops: bool) -> affinity.Dense | affinity.Entries:
    """The graph of weights that were `checked`, in their precision and as dense as
    they are.

    Degrees are scikit-learn's: without loops the columns' sums, with them the rows'; 1
    where that is 0. They are the same where W is symmetric.
    """
    own_N = weights_NN.diagonal()
    sum_N = np.ravel(weights_NN.sum(axis=1 if loops else 0))
    degree_N = sum_N if loops else sum_N - own_N
    degree_N = np.where(degree_N > 0, degree_N, 1)
    root_N = np.sqrt(degree_N)
    about = dict(
        log_degree_N=jnp.asarray(np.log(degree_N)),
        loop_N=jnp.asarray(own_N / degree_N if loops else np.zeros_like(own_N)),
    )
    if isinstance(weights_NN, np.ndarray):
        scaled_NN = weights_NN / root_N[:, None] / root_N[None, :]
        np.fill_diagonal(scaled_NN, 0)
        return affinity.Dense(jnp.asarray(scaled_NN), **about)
    other_E = weights_NN.row != weights_NN.col
    rows_E, columns_E = weights_NN.row[other_E], weights_NN.col[other_E]
    values_E = weights_NN.data[other_E] / root_N[rows_E] / root_N[columns_E]
    entries = sparse.sparse(rows_E, columns_E, values_E, weights_NN.shape)
    return affinity.Entries(entries, **about)
