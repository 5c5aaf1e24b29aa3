"""Labeled, unlabeled and validation sets."""

import hashlib
import re

import numpy as np
import pytest

from ssl_jax.data import sources
from ssl_jax.data.dataset import Dataset, inventory
from ssl_jax.data.splits import Asked, kept, mistakes, split
from ssl_jax.errors import UserError


def dataset(counts, num_unlabeled=0, folds=()):
    """counts[c] images of class c, mixed; then some without label."""
    labels_N = np.repeat(np.arange(len(counts)), counts)
    labels_N = np.random.default_rng(1).permutation(labels_N)
    labels_N = np.append(labels_N, np.full(num_unlabeled, -1)).astype(np.int32)
    images_NHWC = np.zeros((len(labels_N), 1, 1, 1), np.uint8)
    names = tuple(f"class {c}" for c in range(len(counts)))
    return Dataset("made", images_NHWC, labels_N, images_NHWC, labels_N, names, folds)


def test_balanced():
    data = dataset([30, 20, 40], num_unlabeled=10)
    parts = split(data, num_labels=12, num_validation=9, seed=3)
    assert np.bincount(data.labels_N[parts.labeled]).tolist() == [4, 4, 4]
    assert np.bincount(data.labels_N[parts.validation]).tolist() == [3, 3, 3]
    assert not set(parts.labeled) & set(parts.validation)
    np.testing.assert_array_equal(
        parts.unlabeled, np.setdiff1d(np.arange(100), parts.validation)
    )
    for indices in parts:
        assert indices.dtype == np.int32
        assert (np.diff(indices) > 0).all()  # sorted, none twice
    without = split(
        data, num_labels=12, num_validation=9, labeled_in_unlabeled=False, seed=3
    )
    np.testing.assert_array_equal(
        without.unlabeled, np.setdiff1d(parts.unlabeled, parts.labeled)
    )


def test_seeds_and_numbers():
    data = dataset([50] * 4)
    labeled = split(data, num_labels=8, seed=0).labeled
    assert labeled.tolist() == split(data, num_labels=8, seed=0).labeled.tolist()
    assert labeled.tolist() != split(data, num_labels=8, seed=1).labeled.tolist()
    validated = split(data, num_labels=8, num_validation=40, seed=0)
    assert labeled.tolist() == validated.labeled.tolist()
    more = split(data, num_labels=80, num_validation=40, seed=0)
    assert set(labeled) < set(more.labeled)
    assert validated.validation.tolist() == more.validation.tolist()


def test_zero_labels_are_all_that_have_one():
    data = dataset([30, 20], num_unlabeled=5)
    parts = split(data, num_labels=0, num_validation=10, seed=0)
    assert len(parts.labeled) == 40
    assert (data.labels_N[parts.labeled] >= 0).all()
    assert not set(parts.labeled) & set(parts.validation)
    assert len(parts.unlabeled) == 45


def test_folds():
    fold = np.array([3, 5, 8, 9], np.int32)  # all of class 1 but the last
    data = dataset([10, 10], num_unlabeled=5, folds=(fold[2:], fold, fold[:2]))
    parts = split(data, num_labels=4, num_validation=4, fold=1, seed=0)
    assert parts.labeled.tolist() == fold.tolist()
    assert not set(parts.validation) & set(fold)
    assert len(parts.unlabeled) == 21
    assert split(data, num_labels=0, fold=0, seed=7).labeled.tolist() == [8, 9]
    with pytest.raises(UserError, match="num_labels=2, but fold 1 of made has 4"):
        split(data, num_labels=2, fold=1, seed=0)
    with pytest.raises(UserError, match="fold=3: made has 3 predefined folds"):
        split(data, num_labels=4, fold=3, seed=0)
    with pytest.raises(UserError, match="'class 0' .* no image among .* data.fold=2"):
        split(data, num_labels=2, fold=2, seed=0)


def test_two_phase_is_the_tutorials_lists():
    data = dataset([5_000] * 10)
    expected = np.arange(50_000)
    np.random.default_rng(0).shuffle(expected)
    for seed in (0, 1):
        parts = split(
            data, num_labels=5000, num_validation=100, protocol="two_phase", seed=seed
        )
        granted = np.union1d(parts.labeled, parts.validation)
        assert granted.tolist() == sorted(expected[:5_000])
        assert len(parts.labeled) == 4_900
        assert parts.unlabeled.tolist() == sorted(expected[5_000:25_000])
        assert np.bincount(data.labels_N[parts.validation]).tolist() == [10] * 10
    with pytest.raises(UserError, match="50,000 training images, and made has 20:"):
        split(dataset([10, 10]), num_labels=0, protocol="two_phase", seed=0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"num_labels": 13}, "num_labels=13 .* 4 classes: use 12 or 16"),
        ({"num_labels": 3}, "num_labels=3 .* 4 classes: use 4"),
        ({"num_labels": 8, "num_validation": 6}, "num_validation=6 .*: use 4 or 8"),
        ({"num_labels": 28}, "'class 2' has 5 images .* ask for 7 of each"),
        ({"num_labels": 16, "num_validation": 8}, "'class 2' has 5 .* ask for 6"),
        ({"num_labels": 4, "fold": 0}, "made has 0 predefined folds"),
        ({"num_labels": 4, "protocol": "odd"}, "'two_phase' or 'planetoid'"),
    ],
)
def test_impossible_splits(asked, message):
    with pytest.raises(UserError, match=message):
        split(dataset([10, 10, 5, 10]), **asked, seed=0)


def test_digits_with_the_papers_numbers():
    data = sources.load("digits")
    for num_labels in (20, 40):
        parts = split(data, num_labels=num_labels, num_validation=200, seed=4)
        assert len(parts.labeled) == num_labels
        assert len(parts.unlabeled) == 1_097


def test_first_slices_the_pool_as_tutorials_do():
    got = split(
        dataset([10, 10]),
        protocol="first",
        num_labels=5,  # not divisible by the classes, and need not be
        num_unlabeled=9,
        num_validation=4,
        seed=3,
    )
    assert got.labeled.tolist() == list(range(5))
    assert got.unlabeled.tolist() == list(range(9))
    assert len(got.validation) == 4 and got.validation.min() >= 9
    with pytest.raises(UserError, match="from the 20 images of the pool"):
        split(dataset([10, 10]), protocol="first", num_labels=21, seed=0)
    with pytest.raises(UserError, match="not all of the first images"):
        split(dataset([1, 1], num_unlabeled=9), protocol="first", num_labels=9, seed=0)


def test_num_unlabeled_draws_by_seed():
    drawn = [
        split(dataset([10, 10]), num_labels=4, num_unlabeled=7, seed=seed).unlabeled
        for seed in (0, 0, 1)
    ]
    assert len(set(drawn[0].tolist())) == 7
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    many = dict(num_labels=40, num_unlabeled=200, seed=0)
    labeled, unlabeled, _ = split(dataset([600, 600]), **many)
    assert len(unlabeled) == 200 and set(labeled) < set(unlabeled)  # all 40 belong
    others = split(dataset([600, 600]), **many, labeled_in_unlabeled=False).unlabeled
    assert len(others) == 200 and not set(labeled) & set(others)
    for protocol in ("balanced", "first"):
        with pytest.raises(
            UserError, match="data.num_unlabeled=3 has no room for the 4"
        ):
            asked = dict(num_labels=4, num_unlabeled=3, protocol=protocol)
            split(dataset([10, 10]), **asked, seed=0)
    with pytest.raises(UserError, match="num_unlabeled=21, but there are 20"):
        split(dataset([10, 10]), num_labels=4, num_unlabeled=21, seed=0)


@pytest.mark.parametrize(
    ("counts", "asked", "message", "remedied"),
    [
        (
            [40, 40, 2],
            {"num_labels": 0, "num_validation": 6},
            "'class 2' .* has 2 images .* data.num_validation=6 holds out 2 of each",
            {"num_labels": 0, "num_validation": 3},
        ),
        (
            [4, 4],  # an IndexError once
            {"num_labels": 0, "num_validation": 8},
            r"'class 0' \(and 1 more\) .*: use data.num_validation=6 or less",
            {"num_labels": 0, "num_validation": 6},
        ),
        (
            [9, 9, 1],
            {"num_labels": 0, "num_validation": 3},
            "'class 2' .* has 1 images .*: use data.num_validation=0.$",
            {"num_labels": 0, "num_validation": 0},
        ),
        (
            [10, 10],  # labels begin with 0 1 1
            {"num_labels": 1, "protocol": "first"},
            "'class 1' .* none of the first data.num_labels=1 images: use 2 or more",
            {"num_labels": 2, "protocol": "first"},
        ),
        ([9, 9, 0], {"num_labels": 0}, "'class 2' .* no image with a label", None),
    ],
)
def test_every_class_keeps_a_label(counts, asked, message, remedied):
    data = dataset(counts)
    with pytest.raises(UserError, match=message):
        split(data, **asked, seed=0)
    if remedied is not None:
        labeled = split(data, **remedied, seed=0).labeled
        assert np.unique(data.labels_N[labeled]).tolist() == [*range(len(counts))]


@pytest.mark.parametrize(
    ("asked", "digest"),  # of the arrays before classes were counted
    [
        ({"num_labels": 12, "num_validation": 9, "seed": 3}, "56299e62"),
        (
            {"num_labels": 0, "num_validation": 9, "labeled_in_unlabeled": False}
            | {"seed": 1},
            "2424414d",
        ),
        (
            {"num_labels": 12, "num_unlabeled": 40, "labeled_in_unlabeled": False}
            | {"seed": 2},
            "ab81241c",
        ),
        ({"num_labels": 0, "num_validation": 6, "fold": 0, "seed": 5}, "4e6db435"),
        (
            {"num_labels": 20, "num_unlabeled": 50, "num_validation": 6}
            | {"protocol": "first", "seed": 4},
            "c1c0c396",
        ),
        ({"num_labels": 12, "num_unlabeled": 100, "seed": 2}, "0a835a84"),
    ],
)
def test_splits_stay_what_they_were(asked, digest):
    fold = np.arange(0, 60, 2, dtype=np.int32)
    parts = split(dataset([30, 20, 40], num_unlabeled=10, folds=(fold,)), **asked)
    joined = b"".join(part.tobytes() + b"|" for part in parts)
    assert hashlib.md5(joined).hexdigest()[:8] == digest


def test_first_leaves_the_labeled_ones_out_where_they_are_not_wanted():
    asked = dict(num_labels=5, num_unlabeled=9, protocol="first", seed=0)
    parts = split(dataset([10, 10]), **asked, labeled_in_unlabeled=False)
    assert parts.unlabeled.tolist() == list(range(5, 14))


def test_the_split_of_a_citation_network_is_its_own():
    folds = np.arange(4, dtype=np.int32), np.arange(4, 9, dtype=np.int32)
    data = dataset([10, 10], folds=folds)
    got = split(data, num_labels=4, num_validation=5, protocol="planetoid", seed=3)
    for given, expected in zip((got.labeled, got.validation), folds, strict=True):
        np.testing.assert_array_equal(given, expected)
    assert got.unlabeled.tolist() == [*range(4), *range(9, 20)]
    with pytest.raises(UserError, match="num_validation=6: .* 4 labels and 5 nodes"):
        split(data, num_labels=4, num_validation=6, protocol="planetoid", seed=3)
    own = split(data, num_labels=0, num_validation=5, protocol="planetoid", seed=3)
    np.testing.assert_array_equal(own.labeled, folds[0])  # 0 labels are its own
    with pytest.raises(UserError, match="made is none: use data.split='balanced'"):
        split(dataset([10, 10]), num_labels=4, protocol="planetoid", seed=3)


@pytest.mark.parametrize(
    ("asked", "unlabeled"),
    [
        (Asked(num_labels=2), [0, 1, 3, 4, 5]),
        (Asked(num_labels=2, labeled_in_unlabeled=False), [0, 3, 4, 5]),
        (Asked(num_labels=2, num_unlabeled=3), [0, 1, 3, 4, 5]),
        (Asked(num_labels=0), [1, 4, 5]),  # labels that came are known as well
    ],
)
def test_what_came_and_went_leaves_the_rest_of_a_split_as_it_was(asked, unlabeled):
    """Labeled was b, c, and e by an answer; d validated; a and what is new is not."""
    before = dataset([2, 3])._replace(names_N=tuple("abcde"))
    before = inventory(before, labeled=[1, 2, 4], validation=[3])
    labels_N = np.array([1, 0, 1, 0, -1, -1, 1, 0], np.int32)
    names = ("a", "b", "d", "d2", "e", "f", "val/g", "val/h")
    now = dataset([4, 4])._replace(labels_N=labels_N, names_N=names, num_held_out=2)
    parts = kept(now, asked, before)
    assert [part.tolist() for part in parts] == [[1], unlabeled, [2]]
    assert {part.dtype for part in parts} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("protocol", "asked", "expected"),
    [
        ("balanced", {"num_labels": 4, "fold": 3}, []),
        ("odd", {"num_labels": 4}, ["'balanced', 'first', 'two_phase' or 'planetoid'"]),
        ("first", {"num_labels": 4, "fold": 0}, ["'first' takes no predefined fold"]),
        ("planetoid", {"num_labels": 4, "fold": 0}, ["'planetoid' takes no"]),
        ("two_phase", {"num_labels": 40}, ["num_labels=40, .* labels 5,000 images"]),
        ("two_phase", {"num_labels": 0, "fold": 0}, ["fold=0: .* and data.fold=-1"]),
    ],
)
def test_what_is_wrong_whatever_the_data_is_told_all_at_once(protocol, asked, expected):
    told = list(mistakes(protocol, Asked(**asked)))
    assert len(told) == len(expected)
    for message, pattern in zip(told, expected, strict=True):
        assert re.search(pattern, message)
        assert message.startswith("data.")  # as the command line calls it
    if told:
        with pytest.raises(UserError, match=expected[0]):
            split(dataset([10, 10]), **asked, protocol=protocol, seed=0)


def test_without_classes_all_is_unlabeled():
    data = dataset([], num_unlabeled=9)
    parts = split(data, num_labels=0, seed=0)
    assert parts.unlabeled.tolist() == [*range(9)] and parts.unlabeled.dtype == np.int32
    assert len(parts.labeled) == len(parts.validation) == 0
    some, others = (
        split(data, num_labels=0, num_unlabeled=4, seed=seed).unlabeled.tolist()
        for seed in (0, 1)
    )
    assert len(some) == 4 and some == sorted(some) and some != others
    for asked in ({"num_labels": 4}, {"num_labels": 0, "num_validation": 2}):
        with pytest.raises(UserError, match="no image of made has a label; use 0"):
            split(data, **asked, seed=0)
    with pytest.raises(UserError, match="num_unlabeled=10, but there are 9 images"):
        split(data, num_labels=0, num_unlabeled=10, seed=0)
