"""Images that stay in their files: the same pixels, rows and runs as in memory."""

import shutil
import threading
import time
import tracemalloc

import jax
import numpy as np
import pytest
from photos import fill, load, save
from PIL import Image

import tiny
from experiments.speed import kill_resume
from ssl_jax import core
from ssl_jax.data import feeds, loading, placement, sources, streams
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.report.figures import curves
from ssl_jax.train import pictures
from ssl_jax.train.run import run

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 4, 6, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def streamed(images_NHWC, broken=(), workers=2):
    """Images that are in memory after all; rows that are `broken` cannot be read."""

    def read(rows):
        for row in rows:
            if row in broken:
                raise UserError(f"row {row} is broken.")
            yield images_NHWC[row]

    return streams.Images(read, images_NHWC.shape, "noise", workers)


def alone(before):
    """Whether no thread is left but those of `before`; one may be in its last piece."""
    for _ in range(500):
        if threading.active_count() <= before:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    "index",
    [
        *(3, -1, slice(2, 9, 3), slice(0, 0), np.arange(50) % 7 == 0),
        *([4, 4, -50], np.array([[1, 2], [30, 49]]), np.zeros((0, 2), int)),
    ],
    ids=str,
)
def test_an_index_gives_what_an_array_gives(index):
    images = streamed(IMAGES)
    np.testing.assert_array_equal(images[index], IMAGES[index])
    assert images[index].dtype == np.uint8


def test_it_looks_like_an_array_and_is_none():
    images = streamed(IMAGES)
    for name in ("shape", "dtype", "ndim", "nbytes"):
        assert getattr(images, name) == getattr(IMAGES, name)
    assert len(images) == 50
    for outside in (50, -51, [0, 99]):
        with pytest.raises(IndexError, match="noise has 50 images"):
            images[outside]
    for whole in (np.asarray, lambda x: np.concatenate([x, x])):
        with pytest.raises(UserError, match="noise are streamed.*placement='host'"):
            whole(images)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (1,)])
def test_what_is_gathered_is_in_order_whatever_the_pieces(monkeypatch, workers, shape):
    indices = list(np.random.default_rng(1).integers(0, 50, (9, *shape)))
    before = threading.active_count()
    for piece in (1, 4, 256):
        monkeypatch.setattr(streams, "_PIECE", piece)
        found = list(streams.gathered(streamed(IMAGES, workers=workers), indices))
        np.testing.assert_array_equal(found, IMAGES[np.array(indices)])
    np.testing.assert_array_equal(list(streams.gathered(IMAGES, indices)), found)
    assert not list(streams.gathered(streamed(IMAGES), []))
    assert alone(before)


def test_what_cannot_be_read_is_named_and_no_thread_is_left(monkeypatch):
    monkeypatch.setattr(streams, "_PIECE", 2)
    before = threading.active_count()
    images = streams.gathered(streamed(IMAGES, broken=[31]), np.arange(50)[:, None])
    np.testing.assert_array_equal([next(images)[0] for _ in range(31)], IMAGES[:31])
    with pytest.raises(UserError, match="row 31 is broken"):
        next(images)
    assert alone(before)
    left = streams.gathered(streamed(IMAGES), np.arange(50).reshape(10, 5))
    next(left)
    assert threading.active_count() > before
    left.close()
    assert alone(before)


def test_threads_are_as_many_as_cores_or_as_asked_for(monkeypatch):
    monkeypatch.setattr(streams.os, "sched_getaffinity", lambda _: {0, 3, 5}, False)
    assert streamed(IMAGES, workers=0).workers == 3
    monkeypatch.delattr(streams.os, "sched_getaffinity")
    monkeypatch.setattr(streams.os, "cpu_count", lambda: 6)
    assert streamed(IMAGES, workers=0).workers == 6
    assert streamed(IMAGES, workers=2).workers == 2


def test_batches_to_evaluate_are_read_as_they_are_asked_for():
    labels_N, of = np.arange(50), np.arange(5, 50, 3)
    sizes = dict(batch=4, num_devices=2)
    for rows in (of, None):
        there = placement.padded_batches(IMAGES, labels_N, of=rows, **sizes)
        lazy = placement.padded_batches(streamed(IMAGES), labels_N, of=rows, **sizes)
        assert isinstance(there, list) and not isinstance(lazy, list)
        jax.tree.map(np.testing.assert_array_equal, list(lazy), there)
        assert len(lazy) == len(there)
        jax.tree.map(np.testing.assert_array_equal, lazy[1], there[1])
    seen = [
        b["label"][b["mask"]]
        for b in placement.padded_batches(IMAGES, labels_N, of=of, **sizes)
    ]
    np.testing.assert_array_equal(np.concatenate(seen), of)


def test_images_stay_in_their_files_where_they_are_asked_to_or_do_not_fit(
    monkeypatch, tmp_path, capsys
):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:     1000 kB\nHugePages: 0\n")
    monkeypatch.setattr(placement, "_MEMINFO", meminfo)
    assert placement.streams("stream", 1)
    assert not placement.streams("host", 10**18)
    assert not placement.streams("device", 10**18)
    assert not placement.streams("auto", 614_400) and not capsys.readouterr().err
    assert placement.streams("auto", 614_401)
    said = capsys.readouterr().err
    assert "the images take 0.0 GB" in said and "data.placement='stream'" in said
    monkeypatch.setattr(placement, "_MEMINFO", tmp_path / "none")  # on macOS
    assert not placement.streams("auto", 2**20)
    assert placement.streams("auto", 2**60)


def test_what_is_in_memory_or_needs_to_be_is_not_streamed():
    mesh = core.make_mesh(jax.devices()[:1])
    wanted = Wanted(placement="stream")
    with pytest.raises(UserError, match="'stream' and data.name='digits': what is str"):
        loading.read(wanted, mesh)
    digits = sources.load("digits")
    with pytest.raises(UserError, match="'stream', and the images of digits are in"):
        loading.read(wanted, mesh, dataset=digits)
    digits = digits._replace(images_NHWC=streamed(digits.images_NHWC))
    data = loading.load(Wanted(), mesh, seed=0, dataset=digits)
    with pytest.raises(UserError, match="a step of teach sees all images.*'host'"):
        feeds.build(data, mesh, feeds.Draw("pool", 0, 0, 1, seed=0, phase="teach"))
    with pytest.raises(UserError, match="noise are streamed"):
        loading.read(Wanted(), mesh, as_graph=True, dataset=digits)


@pytest.fixture
def photos(tmp_path):
    """Sizes, orientations and formats mixed, grey and colour; one empty, one not."""
    root = tmp_path / "photos"
    fill(root, "cat/1.png", "cat/2.jpg", "cat/10.png", size=(20, 31))
    fill(root, "dog/3.png", "dog/4.jpg", "val/cat/5.png", "test/dog/6.jpg")
    save(root / "unlabeled/7.jpg", 7, (33, 17), exif=_turned())
    save(root / "unlabeled/8.png", 8, (16, 16), mode="L")
    (root / "unlabeled/empty.jpg").touch()
    return root


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_a_folder_gives_the_same_data_set_from_its_files(photos, cache):
    with pytest.raises(UserError, match="sizes: .*set config.data.image_size"):
        load(photos, placement="stream")
    lazy = load(photos, placement="stream", image_size=12, workers=3)
    assert isinstance(lazy.images_NHWC, streams.Images) and not cache.exists()
    there = load(photos, placement="host", image_size=12)
    for field, of_host, of_stream in zip(there._fields, there, lazy, strict=True):
        if "images" in field:
            assert of_stream.workers == 3 and of_stream.shape == of_host.shape
            of_stream = of_stream[:]
        np.testing.assert_array_equal(of_host, of_stream)
    assert lazy.unreadable == {"unlabeled/empty.jpg"} and lazy.num_held_out == 1
    with pytest.raises(UserError, match="strict=True.*\n.*empty.jpg: empty"):
        load(photos, placement="stream", image_size=12, strict=True)


def test_a_file_that_turns_out_to_be_damaged_is_named(photos):
    whole = (photos / "dog/3.png").read_bytes()
    (photos / "dog/3.png").write_bytes(whole[:-60])  # its header is there
    lazy = load(photos, placement="stream", image_size=12)
    with pytest.raises(
        UserError, match="dog/3.png in .*photos cannot be read .*'host'"
    ):
        lazy.images_NHWC[:]
    rows = [row for row, name in enumerate(lazy.names_N) if name != "dog/3.png"]
    lazy.images_NHWC[rows]
    # Put right, the same stream reads it.
    (photos / "dog/3.png").write_bytes(whole)
    lazy.images_NHWC[:]


def test_a_stream_reads_files_as_large_as_was_allowed(photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    lazy = load(photos, placement="stream", image_size=8, max_pixels=620)
    assert lazy.images_NHWC[:].shape == (8, 8, 8, 3)


@pytest.fixture(scope="module")
def folder_of_digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    digits = sources.load("digits")
    for part, images, labels in (
        ("train", digits.images_NHWC[:120], digits.labels_N),
        ("test", digits.test_images_MHWC[:20], digits.test_labels_M),
    ):
        for i, image_HWC in enumerate(images):
            path = root / part / str(labels[i]) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image_HWC[..., 0]).save(path)
    return root


def test_a_run_meets_a_damaged_file_and_goes_on_as_the_run_from_memory(
    folder_of_digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(pictures, "before", lambda *_: {})
    monkeypatch.setattr(curves, "of_phase", lambda *_: {})
    root, one = tmp_path / "digits", jax.devices()[:1]
    shutil.copytree(folder_of_digits, root)
    config = tiny.config("supervised.Supervised")
    config.data.update(name="folder", dir=str(root), num_labels=0, num_validation=10)
    config.data.image_size = 8  # or each PNG is decoded to see how it is turned
    config.data.placement = "host"
    config.train.update(steps=8, eval_every=8, knn=1, unlabeled_ratio=0)
    host = run(config, tmp_path / "host", devices=one)

    data = tiny.load(config, core.make_mesh(one))
    size = len(data.split.labeled)
    rows = [set(feeds.labeled_at(k, seed=0, size=size, batch=8)) for k in range(8)]
    late = min(rows[6] - set.union(*rows[:6]))
    path = root / data.dataset.names_N[data.split.labeled[late]]
    whole = path.read_bytes()
    at = whole.index(b"IDAT") + 6
    path.write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])
    config.data.placement = "stream"
    before = threading.active_count()
    with pytest.raises(UserError, match=f"{path.name} in .*digits cannot be read"):
        run(config, tmp_path / "stream", devices=one)
    assert alone(before)

    path.write_bytes(whole)
    config.data.workers = 1  # which changes nothing
    stream = run(config, tmp_path / "stream", devices=one)
    assert stream["resumed"] == 1 and stream["test"] == host["test"]
    assert stream["data"] == {**host["data"], "streamed": True}
    differences = kill_resume.compare(tmp_path / "host", tmp_path / "stream")
    assert differences == ["result.json"]  # which has the config
    assert alone(before)


def test_memory_stays_as_it_is():
    """experiments/speed/stream_speed.py looks at a whole process over 2,000 steps."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    indices = np.random.default_rng(1).integers(0, 64, (120, 64))
    used = {}
    tracemalloc.start()  # NumPy's arrays as well
    for step, _ in enumerate(streams.gathered(streamed(noise), indices)):
        used[step], _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Kept, the 100 between would be 79 MB.
    assert used[119] - used[19] < 4e6
