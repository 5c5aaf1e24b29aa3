"""Which rows a step sees, and that both placements send the same images."""

import threading

import jax
import numpy as np
import pytest

import tiny
from ssl_jax import core
from ssl_jax.core.metrics import pseudo_label_quality
from ssl_jax.data import feeds, loading, placement, sources, streams
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError


def test_labeled_rows_are_whole_epochs_without_a_gap():
    rows = [feeds.labeled_at(k, seed=3, size=10, batch=4) for k in range(5)]
    stream = np.concatenate(rows)
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()  # shuffled anew
    larger = feeds.labeled_at(0, seed=3, size=10, batch=20)
    np.testing.assert_array_equal(larger, stream)  # a batch over two epochs


def test_unlabeled_rows_never_repeat_in_a_batch_or_an_epoch():
    rows = [feeds.unlabeled_at(k, seed=3, size=11, batch=4) for k in range(4)]
    assert all(len(set(batch.tolist())) == 4 for batch in rows)
    assert len(set(np.concatenate(rows[:2]).tolist())) == 8
    assert rows[0].tolist() != rows[2].tolist()


def test_rows_are_a_function_of_seed_and_step():
    def at(seed, step):
        return feeds.unlabeled_at(step, seed=seed, size=100, batch=5).tolist()

    first = at(0, 7)
    at(1, 0), at(0, 50)
    assert at(0, 7) == first != at(1, 7)
    # Nor are labeled rows drawn as unlabeled ones, where there are as many.
    assert feeds.labeled_at(7, seed=0, size=100, batch=5).tolist() != first


def _batches(config, first, end):
    phase = tiny.build(config)
    return [
        jax.device_get(
            phase.feed.batch(phase.feed.arrays, jax.tree.map(lambda x, i=i: x[i], item))
        )
        for item in phase.feed.items(first, end)
        for i in range(config.train.steps_per_call)
    ]


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_host_placement_sends_what_device_placement_gathers(steps_per_call):
    config = tiny.config()
    config.train.steps_per_call = steps_per_call
    batches = {}
    for place in ("device", "host"):
        config.data.placement = place
        batches[place] = _batches(config, 2, 8)
    assert len(batches["host"]) == 6
    jax.tree.map(np.testing.assert_array_equal, batches["host"], batches["device"])


def _data(labeled_in_unlabeled=True):
    """digits three times: the pool on two devices, on the host, and streamed."""
    mesh = core.make_mesh(jax.devices()[:2])
    wanted = Wanted(
        placement="device",
        num_validation=100,
        labeled_in_unlabeled=labeled_in_unlabeled,
    )
    on_device = loading.load(wanted, mesh, seed=3)
    images_NHWC = on_device.dataset.images_NHWC
    images = streams.Images(
        lambda rows: (images_NHWC[row] for row in rows), images_NHWC.shape, "digits", 2
    )
    on_host = on_device._replace(pool=None)
    dataset = on_device.dataset._replace(images_NHWC=images)
    return on_device, on_host, on_host._replace(dataset=dataset), mesh


def _labels(data):
    index_N = np.append(data.split.labeled, data.split.unlabeled[:30])
    probs_NK = np.random.default_rng(0).dirichlet(np.ones(10), 70).astype(np.float32)
    return feeds.Labels(index_N, probs_NK.argmax(-1).astype(np.int32), probs_NK)


@pytest.mark.parametrize(
    ("draws_from", "ratio", "taught", "entries"),
    [
        ("labeled", 0, False, {"image", "label", "index"}),
        ("labeled", 0, True, {"image", "label", "label_probs", "index"}),
        ("labeled", 3, False, {"image", "label", "index"}),
        ("labeled", 3, True, {"image", "label", "label_probs", "index"}),
        ("unlabeled", 0, False, {"image", "label"}),
    ],
)
def test_every_kind_of_rows_is_the_same_by_every_transport(
    draws_from, ratio, taught, entries
):
    *each, mesh = _data()
    labels = _labels(each[0]) if taught else None
    batches = []
    for data in each:
        draw = feeds.Draw(draws_from, 8, ratio, steps_per_call=2, seed=5)
        feed = feeds.build(data, mesh, draw, labels)
        batch = jax.jit(feed.batch)
        batches.append(
            [
                jax.device_get(
                    batch(feed.arrays, jax.tree.map(lambda x, i=i: x[i], item))
                )
                for item in feed.items(4, 10)
                for i in range(2)
            ]
        )
    jax.tree.map(np.testing.assert_array_equal, *batches)
    assert len(batches[0]) == 6
    for batch in batches[0]:
        beside = {k for k in batch if k.startswith("unlabeled_")}
        assert batch.keys() - beside == entries and len(beside) == (3 if ratio else 0)
        sizes = {k: 8 * ratio if k in beside else 8 for k in batch}
        assert {k: len(v) for k, v in batch.items()} == sizes
        assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32


def test_rows_are_pure_functions_of_the_step_on_the_host():
    data, *_ = _data(labeled_in_unlabeled=False)
    split, sizes = data.split, dict(seed=5, batch=4)
    kinds = {
        "labeled": feeds.labeled(split, **sizes),
        "labeled_as": feeds.labeled_as(_labels(data), **sizes),
        "unlabeled": feeds.unlabeled(split, **sizes),
    }
    for name, rows in list(kinds.items()):
        kinds[f"{name} and"] = feeds.and_unlabeled(rows, split, **sizes)
    for rows in kinds.values():
        first, *_, again = (rows.at(step) for step in (7, 0, 90, 7))
        jax.tree.map(np.testing.assert_array_equal, first, again)
        assert all(isinstance(entry, np.ndarray) for entry in first.values())
        assert set(rows.gathered) <= first.keys()
    assert not kinds["unlabeled"].at(0)["granted"].any()
    drawn = kinds["labeled and"].at(3)
    np.testing.assert_array_equal(drawn["drawn"], kinds["labeled"].at(3)["drawn"])
    assert np.isin(drawn["unlabeled"], split.unlabeled).all()


@pytest.mark.parametrize("place", [0, 1])  # on the device, on the host
def test_a_label_that_is_not_granted_is_in_no_batch(place):
    """Of those that an online probe may learn from, and of the pool as a whole."""
    *each, mesh = _data()
    data = each[place]
    images_NHWC, labels_N = data.dataset.images_NHWC, data.dataset.labels_N
    granted = {images_NHWC[n].tobytes(): labels_N[n] for n in data.split.labeled}
    feed = feeds.build(data, mesh, feeds.Draw("unlabeled", 600, 0, 1, seed=5))
    (item,) = feed.items(0, 1)
    drawn = feed.batch(feed.arrays, jax.tree.map(lambda x: x[0], item))
    whole = feeds.build(data, mesh, feeds.Draw("pool", 0, 0, 1, seed=0)).arrays
    counts = []
    for batch in (drawn, whole):
        batch = jax.device_get(batch)
        known_B = batch["label"] >= 0
        counts.append(known_B[batch.get("mask", slice(None))].sum())
        for image, label in zip(batch["image"], batch["label"], strict=True):
            assert label == granted.get(image.tobytes(), -1)
    assert 5 < counts[0] < counts[1] == 40


def test_the_whole_batch_is_the_same_every_step_and_does_not_travel():
    on_device, *_, mesh = _data()
    feed = feeds.build(on_device, mesh, feeds.Draw("pool", 0, 0, 2, seed=0))
    assert [item.shape for item in feed.items(0, 6)] == [(2, 0)] * 3
    assert feed.num_rows == 1_197 and len(feed.arrays["mask"]) == 1_200
    assert feed.batch(feed.arrays, None) is feed.arrays
    granted = np.asarray(feed.arrays["label"])[np.asarray(feed.arrays["mask"])] >= 0
    assert granted.sum() == 40


def test_host_feed_stops_its_thread_when_left_early():
    config = tiny.config()
    config.data.placement = "host"
    threads = threading.active_count()
    items = tiny.build(config).feed.items(0, 1000)
    next(items)
    assert threading.active_count() == threads + 1
    items.close()
    assert threading.active_count() == threads


def test_a_batch_has_labels_truth_and_positions_of_its_images():
    config = tiny.config()
    dataset, split, *_ = tiny.load(config, core.make_mesh())
    (batch,) = _batches(config, 3, 4)
    pool = split.unlabeled[batch["unlabeled_index"]]
    np.testing.assert_array_equal(batch["unlabeled_image"], dataset.images_NHWC[pool])
    truth_U = np.where(np.isin(pool, split.labeled), -1, dataset.labels_N[pool])
    np.testing.assert_array_equal(batch["unlabeled_label"], truth_U)
    drawn = split.labeled[batch["index"]]
    np.testing.assert_array_equal(batch["image"], dataset.images_NHWC[drawn])
    np.testing.assert_array_equal(batch["label"], dataset.labels_N[drawn])


@pytest.mark.parametrize("place", ["device", "host"])
def test_a_granted_label_is_no_test_of_a_pseudo_label(place):
    """As in a folder, where labels are granted or not there at all; and as in a
    benchmark, whose other images do have a truth."""
    digits, mesh = sources.load("digits"), core.make_mesh(jax.devices()[:1])
    labels_N = np.where(np.arange(1_297) < 200, digits.labels_N, -1)
    folder = digits._replace(labels_N=labels_N.astype(np.int32))
    for dataset, num_labels, tests in ((folder, 0, 0), (digits, 40, 1_287 - 40)):
        wanted = Wanted(placement=place, num_labels=num_labels, num_validation=10)
        data = loading.load(wanted, mesh, seed=0, dataset=dataset)
        draw = feeds.Draw("labeled", 1, len(data.split.unlabeled), 1, seed=0)
        feed = feeds.build(data, mesh, draw)
        (item,) = feed.items(0, 1)
        batch = feed.batch(feed.arrays, jax.tree.map(lambda x: x[0], item))
        pool = data.split.unlabeled[np.asarray(batch["unlabeled_index"])]
        hidden_U = ~np.isin(pool, data.split.labeled)
        truth_U = np.asarray(batch["unlabeled_label"])
        assert (truth_U >= 0).sum() == tests
        np.testing.assert_array_equal(
            truth_U, np.where(hidden_U, dataset.labels_N[pool], -1)
        )
        uniform_UK = np.full((len(pool), 10), 0.1)
        known = pseudo_label_quality(
            uniform_UK, np.ones(len(pool)), truth_U, np.ones(10)
        )
        assert known["kept_accuracy"].count == known["calibration"].count == tests


def test_a_phase_without_unlabeled_data_sends_none():
    config = tiny.config("supervised.Supervised")
    config.train.unlabeled_ratio = 0
    (batch,) = _batches(config, 0, 1)
    assert set(batch) == {"image", "label", "index"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 6}, "batch_size=6 does not divide over 4 devices"),
        (
            {"batch_size": 800},
            r"1600 unlabeled images \(train.batch_size=800, train.unlabeled_ratio=2\), "
            "and there are 1297: use train.unlabeled_ratio=1 or train.batch_size=648",
        ),
        ({"batch_size": 1300}, "there are 1297: use train.batch_size=648, or more"),
    ],
)
def test_impossible_batches_are_the_users_mistake(change, message):
    config = tiny.config()
    config.train.update(change)
    with pytest.raises(UserError, match=message):
        tiny.build(config, num_devices=4)
    told = message.rpartition("train.batch_size=")[2][:3]
    if told.isdigit():  # and then it fits
        config.train.batch_size = int(told)
        tiny.build(config, num_devices=4)


def test_without_unlabeled_images_the_message_says_what_to_set():
    config = tiny.config()
    config.data.update(num_labels=0, labeled_in_unlabeled=False)
    remedy = "train.algorithm.name=supervised.Supervised and train.unlabeled_ratio=0"
    with pytest.raises(UserError, match=f"16 unlabeled .* are none: .*{remedy}"):
        tiny.build(config)
    config = tiny.config("supervised.Supervised")
    config.data.update(num_labels=0, labeled_in_unlabeled=False)
    config.train.unlabeled_ratio = 0
    tiny.build(config)


def test_placement_by_size():
    mesh = core.make_mesh()
    dataset = sources.load("digits")
    images_NHWC, labels_N = placement.place(dataset, "auto", mesh)
    np.testing.assert_array_equal(images_NHWC, dataset.images_NHWC)
    assert images_NHWC.sharding.is_fully_replicated
    assert placement.place(dataset, "host", mesh) is None
    big = dataset._replace(images_NHWC=np.broadcast_to(np.uint8(0), (2**20, 96, 96, 3)))
    assert placement.place(big, "auto", mesh) is None
    with pytest.raises(UserError, match="'gpu'.*auto, device, host or stream"):
        loading.read(Wanted(placement="gpu"), mesh)


def test_padding_covers_every_row_once():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    batches = placement.padded_batches(images, np.arange(10), batch=6, num_devices=4)
    assert [batch["image"].shape[0] for batch in batches] == [8, 8]  # 4 devices
    seen = np.concatenate([b["label"][b["mask"]] for b in batches])
    np.testing.assert_array_equal(seen, np.arange(10))
