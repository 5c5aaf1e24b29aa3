"""Neighbours by a graph of small worlds, where it has only float32 to go by."""

import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.graphs import approximate


@pytest.fixture
def two_places():
    """At 1e9 float32 has steps of 64, so that 40 rows there are one to it."""
    x_ND = np.random.default_rng(0).normal(size=(80, 3))
    x_ND[::2] += 1e9
    return x_ND


def test_rows_that_float32_cannot_tell_apart_are_searched_exactly(two_places):
    index_N5 = approximate.neighbor_lists(two_places, 5)
    difference_NND = two_places[:, None] - two_places[None]
    order_N5 = np.argsort((difference_NND**2).sum(axis=-1), axis=1)[:, :5]
    np.testing.assert_array_equal(np.sort(index_N5), np.sort(order_N5))


def test_too_many_of_them_are_refused(two_places, monkeypatch):
    monkeypatch.setattr(approximate, "_LARGEST_AGAIN", 1e4)
    message = r"neighbours of \d+ of 80 rows apart, such as row \d+: use graph='exact'"
    with pytest.raises(UserError, match=message):
        approximate.neighbor_lists(two_places, 5)
