"""Neighbours against NumPy in float64, votes against scikit-learn, memory by XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ssl_jax.errors import UserError
from ssl_jax.graphs import neighbors


def clusters(seed, rows, features=24, classes=7):
    """float32 features like an encoder's, non-negative and overlapping, and labels."""
    rng = np.random.default_rng(seed)
    centers_KD = np.random.default_rng(99).normal(size=(classes, features))
    labels_N = rng.integers(0, classes, rows)
    noise_ND = rng.normal(size=(rows, features))
    features_ND = np.maximum(0.6 * centers_KD[labels_N] + noise_ND, 0)
    return features_ND.astype(np.float32), labels_N


def closeness(queries_MD, bank_ND, metric):
    """[M, N] in float64."""
    q, b = queries_MD.astype(np.float64), bank_ND.astype(np.float64)
    if metric == "euclidean":
        return -((q[:, None] - b[None]) ** 2).sum(-1)
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    return q @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    # one query; blocks that do not divide M; groups that do not divide N; k that is
    # larger than a group, that needs more than half of the bank, and all of it
    ("M", "N", "k"),
    [(1, 9, 1), (77, 1003, 5), (64, 2999, 20), (33, 130, 100), (3, 40, 40)],
)
def test_nearest_are_those_of_a_full_search(metric, M, N, k):
    queries, bank = clusters(1, M)[0], clusters(2, N)[0]
    found, index = map(np.asarray, neighbors.nearest(queries, bank, k, metric=metric))
    expected = closeness(queries, bank, metric)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(index, order)
    assert index.dtype == np.int32 and found.dtype == np.float32
    rows = np.arange(M)[:, None]
    np.testing.assert_allclose(found, expected[rows, order], rtol=1e-5, atol=1e-6)


def test_the_case_above_goes_through_several_blocks_and_groups():
    assert neighbors.block_rows(77, 1003) == 64
    assert 2999 >= 4 * neighbors._GROUP * (20 + neighbors._SPARE)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_of_duplicates_the_lower_index_comes_first(metric):
    distinct, _ = clusters(3, 90)
    bank = np.tile(distinct, (12, 1))  # the same row at i, i + 90, i + 180, ...
    _, index = neighbors.nearest(distinct, bank, 15, metric=metric)
    copies = np.arange(12)[None, :] * 90 + np.arange(90)[:, None]
    np.testing.assert_array_equal(index[:, :12], copies)


def test_far_from_the_origin_near_ties_keep_their_order():
    """Neither |q|^2 + |b|^2 - 2 qb nor the same around the mean tells these apart."""
    distinct, _ = clusters(3, 90)
    step_1D = np.eye(1, distinct.shape[1], dtype=np.float32) / 2**13
    bank = np.concatenate([distinct + 8 + i * step_1D for i in range(12)])
    _, index = neighbors.nearest(
        distinct + 8 + 20 * step_1D, bank, 12, metric="euclidean"
    )
    copies = np.arange(12)[None, ::-1] * 90 + np.arange(90)[:, None]
    np.testing.assert_array_equal(index, copies)


def test_centering_leaves_the_rounding_of_the_differences():
    queries, bank = clusters(1, 60)[0] + 3000, clusters(2, 1500)[0] + 3000
    _, index = neighbors.nearest(queries, bank, 5, metric="euclidean")
    order = np.argsort(-closeness(queries, bank, "euclidean"), axis=1)[:, :5]
    np.testing.assert_array_equal(index, order)


@pytest.mark.parametrize("jitted", [False, True])
def test_what_products_cannot_tell_is_searched_by_differences(jitted):
    """Frames of one scene that differ in a few grey levels: |q - b|^2 is 1e-8 |q|^2."""
    rng = np.random.default_rng(0)
    scene_1D = 100 * rng.normal(size=(1, 24))
    frames_ND = np.float32(scene_1D + 0.01 * rng.normal(size=(200, 24)))
    others_ND = np.float32(100 * rng.normal(size=(100, 24)))
    bank = np.concatenate([others_ND, frames_ND])

    def search(queries):
        return neighbors.nearest(queries, bank, 5, metric="euclidean")

    search = jax.jit(search) if jitted else search
    found, index = map(np.asarray, search(bank[::3]))
    expected = closeness(bank[::3], bank, "euclidean")
    order = np.argsort(-expected, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(index, order)
    at_order = np.take_along_axis(expected, order, axis=1)
    np.testing.assert_allclose(found, at_order, rtol=1e-4)


def test_candidates_that_float32_cannot_rank_are_ranked_in_float64():
    """All ten rows are candidates, so that none is searched again: at 1e8 float32 has
    steps of 8, and the differences are a tenth."""
    there_n = 1e8 + 0.1 * np.array([3, 0, 4, 1, 2])
    x_N1 = np.concatenate([np.arange(5.0), there_n])[:, None]
    index_N3 = np.asarray(neighbors.nearest(x_N1, x_N1, 3, metric="euclidean")[1])
    expected_N3 = np.argsort(np.abs(x_N1 - x_N1.T), axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(index_N3[[6, 7]], expected_N3[[6, 7]])  # no ties
    np.testing.assert_array_equal(np.sort(index_N3)[:5], np.sort(expected_N3)[:5])


def test_zero_vectors_have_no_similarity():
    queries, bank = np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)
    found, index = neighbors.nearest(queries, bank, 3, metric="cosine")
    assert found.tolist() == [[0, 0, 0]] and index.tolist() == [[0, 1, 2]]


def test_five_neighbours_vote_as_in_sklearn():
    queries, truth = clusters(4, 400)
    bank, labels = clusters(5, 1500)
    expected = KNeighborsClassifier(5, algorithm="brute").fit(bank, labels)
    predictions = neighbors.classify(
        queries, bank, labels, num_classes=7, k=5, metric="euclidean"
    )
    np.testing.assert_array_equal(predictions, expected.predict(queries))
    assert 0.5 < (predictions == truth).mean() < 0.95  # there was something to decide


@pytest.mark.parametrize("temperature", [0.1, 0.001])
def test_votes_weighted_by_similarity(temperature):
    queries, _ = clusters(6, 100)
    bank, labels = clusters(7, 1000)
    expected = []
    for row in closeness(queries, bank, "cosine"):
        votes = np.zeros(7)
        for i in np.argsort(-row)[:50]:
            votes[labels[i]] += np.exp((row[i] - row.max()) / temperature)
        expected.append(votes.argmax())
    given = {"num_classes": 7, "metric": "cosine", "temperature": temperature}
    predictions = neighbors.classify(queries, bank, labels, k=50, **given)
    np.testing.assert_array_equal(predictions, expected)


def test_a_small_bank_votes_as_a_whole_and_ties_go_to_the_smaller_class():
    bank, labels = np.float32([[0], [1], [2], [3]]), [2, 1, 1, 2]
    predictions = neighbors.classify(
        bank[:1], bank, labels, num_classes=3, k=9, metric="euclidean"
    )
    assert predictions.tolist() == [1]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_memory_of_a_hundred_thousand_each(metric):
    """XLA's own account: 40 GB would be needed for all scores at once."""
    rows = jax.ShapeDtypeStruct((100_000, 512), jnp.float32)
    block = neighbors.block_rows(100_000, 100_000)
    center = jax.ShapeDtypeStruct((512,), jnp.float32)
    compiled = neighbors._nearest.lower(
        rows, rows, center, k=200, metric=metric, block=block
    ).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1e9


def test_what_does_not_fit_is_said():
    features, labels = clusters(8, 20)
    with pytest.raises(UserError, match=r"k=21 .* 1 to 20"):
        neighbors.nearest(features, features, 21, metric="cosine")
    with pytest.raises(UserError, match="manhattan.*'euclidean' or 'cosine'"):
        neighbors.nearest(features, features, 2, metric="manhattan")
    with pytest.raises(UserError, match=r"\(20, 23\).*\(20, 24\)"):
        neighbors.nearest(features[:, 1:], features, 2, metric="cosine")
    given = {"num_classes": 7, "k": 2, "metric": "cosine"}
    with pytest.raises(UserError, match="from -1 to 6.*0 to 6"):
        neighbors.classify(features, features, np.r_[-1, 6, labels[2:]], **given)
    with pytest.raises(UserError, match=r"\(19,\) labels .* 20 rows"):
        neighbors.classify(features, features, labels[1:], **given)
