"""A data set made by hand, trained on from memory; and what a run may want of one."""

import dataclasses

import jax
import numpy as np
import pytest

import tiny
from configs import base
from ssl_jax import core
from ssl_jax.data import dataset, loading, sources
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (12, 8, 8, 1), np.uint8)
LABELS = np.arange(12) % 3


def test_arrays_become_a_data_set_without_a_copy():
    data = dataset.of_arrays(IMAGES, np.where(LABELS < 2, LABELS, -1))
    assert np.shares_memory(data.images_NHWC, IMAGES)
    assert data.class_names == ("0", "1") and data.name == "arrays"
    assert data.labels_N.dtype == data.test_labels_M.dtype == np.int32
    assert data.labels_N.tolist() == [0, 1, -1] * 4
    assert data.test_images_MHWC.shape == (0, 8, 8, 1) and not len(data.test_labels_M)
    named = dataset.of_arrays(
        IMAGES,
        LABELS.astype(np.uint8),
        class_names=["cat", "dog", "owl", "none of these"],
        test_images_MHWC=IMAGES[:3],
        test_labels_M=LABELS[:3],
        names_N=[f"{i}.png" for i in range(12)],
        name="pets",
    )
    assert named.class_names[3] == "none of these" and named.names_N[11] == "11.png"
    assert named.test_labels_M.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_NHWC": IMAGES / 255}, r"is float64: it must be uint8, .*255 \* imag"),
        ({"images_NHWC": IMAGES[..., 0]}, r"\(12, 8, 8\): .* images_NHWC\[..., None\]"),
        ({"images_NHWC": IMAGES[..., [0, 0]]}, "of 1 or 3 channels; stack them, all"),
        ({"images_NHWC": IMAGES[:0], "labels_N": LABELS[:0]}, "arrays has 0 images"),
        ({"labels_N": LABELS[1:]}, r"shape \(11,\) for 12 images: it must be \(12,\)"),
        ({"labels_N": np.eye(3)[LABELS]}, "of one-hot rows take the argmax"),
        ({"labels_N": LABELS * 1.0}, "labels_N is float64: it must be integers"),
        ({"labels_N": LABELS.astype(str)}, "labels_N is <U21.*np.unique"),
        ({"labels_N": LABELS - 2}, "row 0 is -2, and the 1 classes are 0 to 0, or -1"),
        ({"labels_N": LABELS * 0}, "the 1 classes 0: name two or more"),
        ({"class_names": ["a", "b"]}, "row 2 is 2, and the 2 classes are 0 to 1"),
        ({"class_names": ["a", "b", "a"]}, "the 3 classes a, b, a: .*each once"),
        ({"names_N": ["a"] * 12}, "12 names, 1 of them different, for 12 images"),
        ({"names_N": ["a"]}, "1 names, 1 of them different, for 12 images"),
        ({"test_labels_M": LABELS}, "give both test_images_MHWC and test_labels_M"),
        (
            {"test_images_MHWC": IMAGES, "test_labels_M": LABELS - 1},
            "test_labels_M row 0 is -1, and the 3 classes are 0 to 2; mend",
        ),
        (
            {"test_images_MHWC": IMAGES[:, :4], "test_labels_M": LABELS},
            r"to test have the shape \(4, 8, 1\), those to train on \(8, 8, 1\)",
        ),
    ],
)
def test_arrays_that_are_no_data_set(change, message):
    with pytest.raises(UserError, match=message):
        dataset.of_arrays(**({"images_NHWC": IMAGES, "labels_N": LABELS} | change))


def test_the_digest_is_of_all_but_the_pixels():
    data = dataset.of_arrays(IMAGES, LABELS, names_N=[str(i) for i in range(12)])
    same = data._replace(images_NHWC=255 - IMAGES, name="other")
    assert dataset.digest(data) == dataset.digest(same)
    # Of the first version that wrote one: workdirs know their data by it.
    assert dataset.digest(sources.load("digits")) == "c389a477bd382fdc5e5caf804ac64419"
    for change in (
        {"labels_N": data.labels_N[::-1]},
        {"class_names": ("0", "1", "3")},
        {"names_N": data.names_N[::-1]},
        {"images_NHWC": IMAGES[:, :4]},
        {"test_labels_M": np.int32([1])},
    ):
        assert dataset.digest(data._replace(**change)) != dataset.digest(data)


@pytest.mark.parametrize("algorithm", ["fixmatch.FixMatch", "gcn.GCN"])
def test_a_run_trains_on_what_is_in_memory(algorithm):
    config = tiny.config(algorithm)
    digits = sources.load("digits")
    data = dataset.of_arrays(
        digits.images_NHWC[:300],
        digits.labels_N[:300],
        test_images_MHWC=digits.test_images_MHWC[:50],
        test_labels_M=digits.test_labels_M[:50],
    )
    config.data.update(name="/no/such/data", num_labels=20)
    mesh = core.make_mesh(jax.devices()[:1])
    given = loading.load(
        config.data, mesh, seed=0, as_graph=algorithm == "gcn.GCN", dataset=data
    )
    assert given.dataset is data and len(given.split.labeled) == 20
    (test,) = given.eval_sets["test"]
    assert int(test["mask"].sum()) == 50
    _, states, sums = tiny.train(tiny.phase(config, "train", given, mesh), 2)
    assert states[-1].step == 2
    assert np.isfinite(sums[-1]["loss"].compute())


def test_answers_join_the_unlabeled_images_or_leave_them(tmp_path):
    (tmp_path / "answers.csv").write_text("image,label\n0,0\n1,1\n2,2\n3,0\n")
    data, mesh = dataset.of_arrays(IMAGES, LABELS), core.make_mesh(jax.devices()[:1])
    answered = dict(labels=str(tmp_path / "answers.csv"), num_labels=3)
    wanted = Wanted(**answered, num_unlabeled=4)
    split = loading.load(wanted, mesh, seed=0, dataset=data).split
    assert {*range(4)} < {*split.labeled} <= {*split.unlabeled}
    apart = dataclasses.replace(wanted, labeled_in_unlabeled=False)
    split = loading.load(apart, mesh, seed=0, dataset=data).split
    assert {*range(4)} < {*split.labeled} and not {*split.labeled} & {*split.unlabeled}


def test_what_is_wanted_is_what_a_config_has():
    data = base.run("x").data.to_dict()
    assert dataclasses.asdict(Wanted()) == data


def test_every_mistake_about_data_is_told_at_once():
    wanted = Wanted(placement="gpu", image_size=-3, split="odd", num_unlabeled=-1)
    told = list(loading.mistakes(wanted))
    assert [message.partition("=")[0] for message in told] == [
        *("data.num_unlabeled", "data.image_size", "data.placement", "data.split")
    ]
    with pytest.raises(UserError) as raised:
        loading.read(wanted, core.make_mesh())
    assert str(raised.value).splitlines() == told
    assert not list(loading.mistakes(Wanted()))
