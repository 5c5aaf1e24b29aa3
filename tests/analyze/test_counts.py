"""How many images there are of what, and when that is told of."""

import numpy as np

from ssl_jax.analyze import counts
from ssl_jax.data.dataset import of_arrays
from ssl_jax.data.splits import Split


def dataset(labels, test):
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    return of_arrays(
        images,
        np.array(labels),
        class_names=("cat", "dog"),
        test_images_MHWC=np.zeros((len(test), 4, 4, 1), np.uint8),
        test_labels_M=np.array(test, int),
    )


def test_rows_are_counted_by_split_and_class():
    data = dataset([0, 1, 1, -1, 0, 1, 1], [1, 1])
    split = Split(*(np.array(rows) for rows in ([0, 1], [0, 1, 2, 3], [4])))
    rows = counts.pool_rows(data, split)
    assert {name: list(r) for name, r in rows.items()} == {
        "labeled": [0, 1],
        "unlabeled": [2, 3],
        "validation": [4],
        "unused": [5, 6],
    }
    labels = {name: data.labels_N[r] for name, r in rows.items()}
    table = counts.table(labels, data.class_names)
    assert table["unlabeled"] == {"images": 2, "classes": {"cat": 0, "dog": 1}}
    held_out = data._replace(num_held_out=2)
    unsplit = {n: list(r) for n, r in counts.pool_rows(held_out, None).items()}
    assert unsplit == {"pool": [0, 1, 2, 3, 4], "validation": [5, 6]}


def told(labeled, test):
    labels = {"labeled": np.repeat([0, 1], labeled), "test": np.repeat([0, 1], test)}
    table = counts.table(labels, ("cat", "dog"))
    return list(counts.warnings(table, counts.balance(table)))


def test_unequal_classes_and_another_test_set_are_told_of():
    assert not told((10, 10), (50, 50)) and not told((10, 10), (0, 0))
    assert not told((2, 1), (1, 2))  # too few to say
    (unequal,) = told((500, 3), (500, 3))
    assert "'cat' has 500 labeled images, 'dog' 3" in unequal
    (other,) = told((50, 50), (95, 5))
    assert "'cat' is 95% of it, and 50%" in other
    balance = counts.balance(counts.table({"a": np.zeros(3, int)}, ("cat", "dog")))
    assert balance["a"]["ratio"] is None and balance["a"]["largest_share"] == 1
