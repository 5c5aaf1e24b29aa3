"""What rows may be, where their center is, and differences against NumPy."""

import numpy as np
import pytest
import scipy.sparse

from ssl_jax.errors import UserError
from ssl_jax.graphs import distances


def rows(N, D=5):
    return np.random.default_rng(0).normal(size=(N, D))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.uint8([[200, 3]]), np.float32),
        (np.float16([[0.1]]), np.float32),
        (np.int64([[1_700_000_000, 1_700_000_001]]), np.float64),
        (np.array([[1, 2.5]], object), np.float64),
        (np.float32([[1e18, 1]]), np.float64),  # 1e36 is float32's, a sum may not be
        (np.float32([[1e-21]]), np.float64),
        (np.float32([[0, 0]]), np.float32),
    ],
)
def test_numbers_keep_what_they_say(values, dtype):
    found = distances.real(values)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values.astype(np.float64))


def test_what_is_no_real_number_is_refused():
    def refused(values, match):
        with pytest.raises(UserError, match=match):
            distances.real(values)

    refused(rows(3) * 1j, "complex128.*real and imaginary parts as columns")
    refused(scipy.sparse.csr_matrix(np.eye(3)), r"sparse .*\(3, 3\).*toarray")
    refused(np.array([["2024-01-01"]], "M8[ns]"), r"datetime64\[ns\].*astype\('int64'")
    refused(np.array([["red"]]), "not numbers.*a column of 0 and 1")
    refused(np.float64([[1e200]]), "1e.200.*overflow")


def test_ordinary_numbers_are_not_scaled_and_others_to_1():
    assert distances.exponent(rows(3), np.float32(rows(3))) == 0
    assert distances.exponent(np.zeros((2, 2))) == 0
    for unit in (1e18, 1e-21, 1e100):
        x_ND = unit * rows(9)
        scaled_ND = np.ldexp(x_ND, -distances.exponent(x_ND))
        assert 0.5 <= np.abs(scaled_ND).max() < 1


def test_one_row_does_not_draw_the_center_away():
    x_ND = rows(1000)
    np.testing.assert_array_equal(distances.center(x_ND), x_ND.mean(axis=0))
    x_ND[7, 2] = 1e7
    assert np.abs(distances.center(x_ND)).max() < 0.2


@pytest.mark.parametrize("D", [3, 21])
def test_squares(D):
    a_BD, b_CD = (np.float32(rows(n, D) + 3000) for n in (4, 7))
    b_CD += np.float32(0.25)
    expected_BC = ((a_BD[:, None] - b_CD[None].astype(np.float64)) ** 2).sum(-1)
    np.testing.assert_allclose(distances.squares(a_BD, b_CD), expected_BC, rtol=1e-5)
