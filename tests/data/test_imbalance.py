"""Classes that are rarer than others."""

import numpy as np
import pytest

from ssl_jax.data import imbalance, loading, splits
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.imbalance import Imbalance, shares, thinned
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError


def _dataset(of_each, num_unknown=0, K=10):
    labels_N = np.random.default_rng(1).permutation(np.repeat(np.arange(K), of_each))
    labels_N = np.append(labels_N, np.full(num_unknown, -1)).astype(np.int32)
    images_NHWC = np.zeros((len(labels_N), 1, 1, 1), np.uint8)
    names = tuple(f"class {c}" for c in range(K))
    return Dataset("made", images_NHWC, labels_N, images_NHWC, labels_N, names, ())


def _counts(data, index_N):
    return np.bincount(data.labels_N[index_N], minlength=10).tolist()


def test_cifar10_lt_has_the_papers_numbers():
    """1,500 and 3,000 images of the first class, gamma 100: the numbers of USB's
    `make_imbalance_data`."""
    data = _dataset(5_000)
    split = splits.split(data, num_labels=15_000, seed=0)
    thin = thinned(data, split, Imbalance("exponential", 100, 100), 30_000, seed=0)
    counts = [1500, 899, 539, 323, 193, 116, 69, 41, 25, 15]
    assert _counts(data, thin.labeled) == counts
    others = np.setdiff1d(thin.unlabeled, thin.labeled)
    twice = [3000, 1798, 1078, 646, 387, 232, 139, 83, 50, 30]
    assert _counts(data, others) == twice
    assert set(thin.labeled) < set(split.labeled) and set(thin.labeled) < set(
        thin.unlabeled
    )
    for index_N in thin:
        assert index_N.dtype == np.int32 and (np.diff(index_N) > 0).all()
    again, other = (
        thinned(data, split, Imbalance("exponential", 100, 100), 30_000, seed=seed)
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(thin.unlabeled, again.unlabeled)
    assert not np.array_equal(thin.labeled, other.labeled)


def test_shapes_and_directions():
    assert shares("step", 20, 5).tolist() == [1, 1, 1, 0.05, 0.05]
    np.testing.assert_allclose(shares("exponential", 16, 3), [1, 1 / 4, 1 / 16])
    np.testing.assert_allclose(shares("exponential", 1 / 16, 3), [1 / 16, 1 / 4, 1])
    assert shares("exponential", 1, 4).tolist() == [1, 1, 1, 1]


def test_unlabeled_images_may_be_otherwise_or_left_as_they_are():
    data = _dataset(50)
    split = splits.split(data, num_labels=200, num_validation=50, seed=0)
    as_they_are = thinned(data, split, Imbalance("step", 10), 0, seed=0)
    assert _counts(data, as_they_are.labeled) == [20] * 5 + [2] * 5
    np.testing.assert_array_equal(as_they_are.unlabeled, split.unlabeled)
    np.testing.assert_array_equal(as_they_are.validation, split.validation)
    # As many as there are of the last class: 45 - 2.
    reverse = thinned(data, split, Imbalance("step", 10, 0.1), 0, seed=0)
    others = np.setdiff1d(reverse.unlabeled, reverse.labeled)
    assert _counts(data, others) == [4] * 5 + [43] * 5
    unlike = splits.split(data, num_labels=200, labeled_in_unlabeled=False, seed=0)
    apart = thinned(data, unlike, Imbalance("step", 10, 10), 100, seed=0)
    assert not set(apart.labeled) & set(apart.unlabeled)
    assert _counts(data, apart.unlabeled) == [10] * 5 + [1] * 5
    # Those that lost their label are unlabeled, also where labeled ones are not.
    others = thinned(data, unlike, Imbalance("step", 10), 0, seed=0)
    assert _counts(data, others.unlabeled) == [30] * 5 + [48] * 5
    assert not set(others.labeled) & set(others.unlabeled)


def test_what_cannot_be_had_is_refused():
    data = _dataset(50)
    split = splits.split(data, num_labels=200, seed=0)
    with pytest.raises(UserError, match="gamma_labeled=30 leaves the class 'class 8'"):
        thinned(data, split, Imbalance("exponential", 30), 0, seed=0)
    with pytest.raises(UserError, match="'class 0' none of 20 labels: .*=1/20 or more"):
        thinned(data, split, Imbalance("exponential", 0.01), 0, seed=0)
    with pytest.raises(
        UserError,
        match="of which 30 have no label: use data.num_unl.*=300",
    ):
        thinned(data, split, Imbalance("step", 10, 10), 400, seed=0)
    # Of class 1 one less is labeled than of class 0.
    of_1 = split.labeled[data.labels_N[split.labeled] == 1]
    lacking = split._replace(labeled=np.setdiff1d(split.labeled, of_1[:1]))
    with pytest.raises(UserError, match="20 labels of the class 'class 1', .* 19: use"):
        thinned(data, lacking, Imbalance("step", 10), 0, seed=0)
    unknown = _dataset(50, num_unknown=7)
    split = splits.split(unknown, num_labels=200, seed=0)
    with pytest.raises(UserError, match="7 images of made have no known class"):
        thinned(unknown, split, Imbalance("step", 10, 10), 0, seed=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"imbalance": "steps"}, "'steps' is unknown; use exponential or step"),
        ({"gamma_labeled": 20.0}, "no effect without data.imbalance"),
        ({"imbalance": "step", "num_labels": 0}, "num_labels=0 is every label"),
        ({"imbalance": "step", "gamma_unlabeled": 0.0}, "gamma_unlabeled=0.0 must be"),
    ],
)
def test_mistakes_are_told_before_data_are_read(fields, message):
    assert any(message in mistake for mistake in loading.mistakes(Wanted(**fields)))


def test_a_run_asks_for_it_by_its_section():
    data = _dataset(50)
    fields = dict(imbalance="exponential", gamma_labeled=10.0, gamma_unlabeled=5.0)
    wanted = Wanted(num_labels=100, num_unlabeled=200, **fields)
    _, split = loading.granted(wanted, data, seed=3)
    assert _counts(data, split.labeled)[::9] == [10, 1]
    others = np.setdiff1d(split.unlabeled, split.labeled)
    assert _counts(data, others)[::9] == [20, 4]
    assert imbalance.SHAPES == ("exponential", "step")
