"""Labeled images held out to judge settings by."""

import numpy as np
import pytest

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.loading import Data
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError
from ssl_jax.tuning import held_out

LABELS_N = np.array([0] * 8 + [1] * 3 + [2] + [-1] * 8, np.int32)
SPLIT = Split(
    labeled=np.arange(12, dtype=np.int32),
    unlabeled=np.arange(20, dtype=np.int32),
    validation=np.array([19], np.int32),
)


def test_a_share_of_each_class_and_some_of_few():
    sizes = held_out.sizes(LABELS_N[:12], 0.25)
    assert sizes == {
        0: 2,
        1: 1,
        2: 0,
    }  # the only one stays
    assert held_out.sizes(np.zeros(400, int), 0.25) == {0: 100}
    assert held_out.sizes(np.zeros(4, int), 0.25) == {0: 2}
    assert held_out.sizes(np.zeros(2, int), 0.99) == {0: 1}


def test_what_is_held_out_is_learned_from_in_no_way():
    for draw in range(3):
        parts = held_out.split(SPLIT, LABELS_N, 0.25, seed=1, draw=draw)
        assert np.bincount(LABELS_N[parts.validation]).tolist() == [2, 1]
        assert not np.intersect1d(parts.validation, parts.labeled).size
        assert not np.intersect1d(parts.validation, parts.unlabeled).size
        both = np.union1d(parts.validation, parts.labeled)
        assert both.tolist() == SPLIT.labeled.tolist()
        assert len(parts.unlabeled) == 17


def test_a_run_without_them_keeps_its_own_to_validate_on():
    dataset = Dataset("toy", None, LABELS_N, None, None, ("a", "b", "c"), ())
    given = Data(dataset, SPLIT, None, {"val": ["its own"]}, None)
    kept = held_out.without(given, 0.25, seed=1)
    parts = held_out.split(SPLIT, LABELS_N, 0.25, seed=1, draw=0)
    assert kept.split.labeled.tolist() == parts.labeled.tolist()
    assert kept.split.unlabeled.tolist() == parts.unlabeled.tolist()
    assert kept.split.validation.tolist() == [19]
    assert kept.eval_sets == {"val": ["its own"]}


def test_each_draw_holds_out_other_images_until_all_were():
    first, *others = (
        held_out.split(SPLIT, LABELS_N, 0.25, seed=3, draw=draw).validation
        for draw in range(4)
    )
    of_class_0 = np.concatenate([first, *others])
    of_class_0 = of_class_0[LABELS_N[of_class_0] == 0]
    assert sorted(of_class_0) == list(range(8))
    again = held_out.split(SPLIT, LABELS_N, 0.25, seed=3, draw=0).validation
    assert again.tolist() == first.tolist()


@pytest.mark.parametrize("of_each", [2, 4, 5])
def test_no_draw_is_another_once_more(of_each):
    """Where a class has no more than two draws of images."""
    labels_N = np.repeat(np.arange(10), of_each)
    every = np.arange(len(labels_N), dtype=np.int32)
    all_labeled = Split(every, every, every[:0])
    drawn = [
        held_out.split(all_labeled, labels_N, 0.25, seed=0, draw=draw).validation
        for draw in range(4)
    ]
    assert not np.intersect1d(drawn[0], drawn[1]).size
    assert len({tuple(validation) for validation in drawn}) == 4
    assert len({len(validation) for validation in drawn}) == 1


def test_one_label_a_class_leaves_nothing_to_judge_by():
    one = SPLIT._replace(labeled=np.array([0, 8, 11], np.int32))
    with pytest.raises(UserError, match="none of the 3 classes has two"):
        held_out.split(one, LABELS_N, 0.25, seed=0, draw=0)
