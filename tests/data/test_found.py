"""What a run says of its data before it trains, worked by hand."""

import json

import jax
import numpy as np
import pytest

import tiny
from ssl_jax import core
from ssl_jax.data import found, loading
from ssl_jax.data.dataset import of_arrays
from ssl_jax.data.sources import digits
from ssl_jax.data.wanted import Wanted


def facts(dataset, as_graph=False, **wanted):
    wanted = Wanted(**wanted)
    mesh = core.make_mesh(jax.devices()[:1])
    data = loading.load(wanted, mesh, seed=0, as_graph=as_graph, dataset=dataset)
    return found.facts(data, wanted.image_size)


@pytest.fixture(scope="module")
def pile():
    """10 cats, 12 dogs and 400 without a label, 5 to test; 32x32 in colour."""
    labels_N = np.repeat([0, 1, -1], [10, 12, 400])
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (427, 32, 32, 3), np.uint8)
    return of_arrays(
        images_NHWC[:422],
        labels_N,
        class_names=["cat", "dog"],
        test_images_MHWC=images_NHWC[422:],
        test_labels_M=np.arange(5) % 2,
    )


@pytest.mark.parametrize(
    ("sizes", "image_size", "form"),
    [
        ((64, 224), 32, "64 to 224 px, brought to 32x32 RGB, centre crop"),
        ((96, 96), 32, "96 px, brought to 32x32 RGB, centre crop"),
        ((32, 32), 32, "32x32 RGB"),
        (None, 32, "brought to 32x32 RGB, centre crop"),
        ((32, 32), 0, "32x32 RGB"),
        (None, 0, "32x32 RGB"),
    ],
)
def test_what_was_found_is_a_line_and_facts(pile, sizes, image_size, form):
    wanted = dict(num_labels=0, image_size=image_size)
    told = facts(pile._replace(sizes=sizes), **wanted)
    assert found.line(told) == (
        f"2 classes: cat (10), dog (12); 400 unlabeled; 5 test; {form}"
    )
    assert json.loads(json.dumps(told)) == told
    assert told["shape"] == [32, 32, 3] and told["classes"] == {"cat": 10, "dog": 12}


def test_the_line_counts_what_is_granted_and_validates(pile):
    told = facts(pile, num_labels=4, num_validation=6)
    # 422 in the pool, but for 4 with a label and 6 to validate.
    assert found.line(told).startswith(
        "2 classes: cat (2), dog (2); 412 unlabeled; 6 to validate; 5 test; "
    )


def test_many_classes_are_cut_and_a_graph_has_nodes():
    wanted = Wanted(digits_as=(8, 8, 1, 100), num_labels=100)
    dataset = digits.load(wanted)
    told = facts(dataset, digits_as=(8, 8, 1, 100), num_labels=100)
    line = found.line(told)
    assert line.startswith("100 classes: 0-0 (1), 1-0 (1), ")
    assert ", 9-1 (1), and 80 more; 1,197 unlabeled; 500 test; 8x8 grey" in line
    config = tiny.config("gcn.GCN")
    data = tiny.load(config, core.make_mesh(jax.devices()[:1]))
    assert found.line(found.facts(data)).endswith(
        "1,277 unlabeled; 500 test; a graph of 1,797 nodes"
    )


def test_no_class_is_no_list_of_classes(pile):
    none = pile._replace(class_names=(), labels_N=np.full(422, -1, np.int32))
    none = none._replace(
        test_images_MHWC=pile.images_NHWC[:0], test_labels_M=none.labels_N[:0]
    )
    told = facts(none, num_labels=0)
    assert found.line(told) == "no classes; 422 unlabeled; 0 test; 32x32 RGB"
    assert told["classes"] == {}
