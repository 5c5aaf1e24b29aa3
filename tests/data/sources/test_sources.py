"""digits, data sets of TensorFlow Datasets, and the cache of decoded arrays."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ssl_jax import core
from ssl_jax.data import loading, sources
from ssl_jax.data.sources import tfds_split
from ssl_jax.data.streams import Images
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

TESTS = Path(__file__).parents[2]
ROOT = TESTS.parent
REAL = Path(os.environ.get("TFDS_DATA_DIR") or ROOT.parent / "shared" / "data" / "tfds")
ARRAYS = ("images_NHWC", "labels_N", "test_images_MHWC", "test_labels_M")


def run(*command, **variables):
    """A Python program's output; in the repository, as the README's commands are."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folders array_record and tfrecord with tfds_files.py's small data sets."""
    folder = tmp_path_factory.mktemp("tfds")
    run(TESTS / "tfds_files.py", "small", folder)
    return folder


def test_digits():
    data = sources.load("digits")
    assert data.images_NHWC.shape == (1_297, 8, 8, 1)
    assert data.test_images_MHWC.shape == (500, 8, 8, 1)
    assert data.images_NHWC.dtype == np.uint8
    assert (data.images_NHWC.min(), data.images_NHWC.max()) == (0, 255)
    assert set(np.bincount(data.test_labels_M)) <= {48, 49, 50, 51}  # stratified
    # Which is scikit-learn's, though it is not imported for it.
    pixels_ND, digits_N = load_digits(return_X_y=True)
    images_NHWC = np.round(pixels_ND.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    rows = train_test_split(
        np.arange(1_797), test_size=500, stratify=digits_N, random_state=0
    )
    train, test = map(np.sort, rows)
    np.testing.assert_array_equal(data.images_NHWC, images_NHWC[train])
    np.testing.assert_array_equal(data.labels_N, digits_N[train])
    np.testing.assert_array_equal(data.test_images_MHWC, images_NHWC[test])
    np.testing.assert_array_equal(data.test_labels_M, digits_N[test])


@pytest.mark.parametrize("shape", [(32, 32, 3, 10), (32, 32, 3, 100), (28, 20, 1, 20)])
def test_digits_stand_in_for_other_sets(shape):
    *image, num_classes = shape
    data = sources.load("digits", digits_as=shape)
    assert data.images_NHWC.shape == (1_297, *image)
    assert len(data.class_names) == num_classes == len(set(data.class_names))
    assert set(data.labels_N) == set(data.test_labels_M) == set(range(num_classes))
    plain = sources.load("digits")
    np.testing.assert_array_equal(data.labels_N % 10, plain.labels_N)


@pytest.mark.parametrize("num_classes", [0, 7, 15, 1_000])
def test_digits_with_impossible_classes(num_classes):
    with pytest.raises(UserError, match=f"{num_classes} classes.*multiple of 10"):
        sources.load("digits", digits_as=(8, 8, 1, num_classes))


def test_rows_are_sorted_by_id(prepared):
    data = sources.load("tiny", data_dir=str(prepared / "array_record"))
    assert data.images_NHWC.shape == (12, 8, 6, 3)
    np.testing.assert_array_equal(data.images_NHWC[:, 0, 0, 0], 10 * np.arange(12))
    np.testing.assert_array_equal(data.labels_N, np.arange(12) % 2)
    assert data.labels_N.dtype == np.int32
    assert data.class_names == ("cat", "dog")
    assert data.test_images_MHWC.shape == (12, 8, 6, 3)
    versioned = sources.load("tiny:1.0.0", data_dir=str(prepared / "array_record"))
    np.testing.assert_array_equal(data.images_NHWC, versioned.images_NHWC)


def test_the_extra_split_joins_the_pool_when_asked_for(prepared):
    folder = str(prepared / "array_record")
    assert len(sources.load("extra", data_dir=folder).labels_N) == 12
    data = sources.load("extra", data_dir=folder, extra=True)
    np.testing.assert_array_equal(data.labels_N, np.arange(24) % 12 % 2)
    with pytest.raises(UserError, match="train, test, and no 'extra'"):
        sources.load("tiny", data_dir=folder, extra=True)


def test_image_size_brings_all_to_one_square(prepared, cache):
    folder = str(prepared / "array_record")
    data = sources.load("shapes", data_dir=folder, image_size=16)
    assert data.images_NHWC.shape == (12, 16, 16, 3)
    np.testing.assert_array_equal(data.images_NHWC[:, 3, 3, 1], 10 * np.arange(12))
    sources.load("tiny", data_dir=folder, image_size=4)
    sources.load("tiny", data_dir=folder)
    assert len(os.listdir(cache)) == 3


def test_a_stream_has_the_same_rows_from_their_records(prepared, cache):
    folder = str(prepared / "array_record")
    for name, settings in (
        ("tiny", dict(image_size=4)),
        ("extra", dict(image_size=8, extra=True)),  # two splits are the pool
        ("shapes", dict(image_size=5)),
    ):
        there = sources.load(name, data_dir=folder, **settings)
        for _ in range(2):  # labels are read once, and then known
            lazy = sources.load(name, data_dir=folder, placement="stream", **settings)
            assert isinstance(lazy.images_NHWC, Images)
            rows = np.random.default_rng(0).permutation(len(there.labels_N))
            np.testing.assert_array_equal(
                lazy.images_NHWC[rows], there.images_NHWC[rows]
            )
            for field in ARRAYS:
                np.testing.assert_array_equal(
                    getattr(lazy, field)[:], getattr(there, field)
                )
            assert lazy.class_names == there.class_names and lazy.name == there.name
    assert len(os.listdir(cache)) == 6


def test_a_stream_needs_one_size_and_labels_within_the_classes(prepared):
    how = dict(data_dir=str(prepared / "array_record"), placement="stream")
    with pytest.raises(UserError, match="may differ in size.*config.data.image_size"):
        sources.load("tiny", **how)
    with pytest.raises(UserError, match="outside the classes: train row train_5"):
        sources.load("labels", image_size=4, **how)


def test_a_survey_goes_on_without_bad_records(prepared, monkeypatch):
    wanted = Wanted(name="shapes", dir=str(prepared / "array_record"))
    found = sources.survey(wanted)
    assert "image shape unlike the first" in found.mistakes[0]
    assert {file[1:6] for file in found.files} == {
        ("PNG", "RGB", False, height, 6) for height in (8, 9)
    }
    assert found.dataset.images_NHWC[:].shape == (12, 6, 6, 3)
    blocks, rows = tfds_split.Split.blocks, [*range(7), *range(8, 12)]

    def damaged(split):
        for block in blocks(split):
            cut = {"train_7": 40}  # bytes
            yield [
                r | {"image": r["image"][: cut.get(r["id"].decode())]} for r in block
            ]

    monkeypatch.setattr(tfds_split.Split, "blocks", damaged)
    wanted = dataclasses.replace(wanted, image_size=5)
    with pytest.raises(UserError, match="of the split 'train' cannot be read"):
        sources.read(wanted)
    found = sources.survey(wanted)
    assert (len(found.unreadable), len(found.mistakes), len(found.files)) == (1, 1, 23)
    seen_N = found.dataset.images_NHWC[:][:, 2, 2, 0]
    np.testing.assert_array_equal(seen_N, 10 * np.array(rows))
    np.testing.assert_array_equal(found.dataset.labels_N, np.array(rows) % 2)


def test_a_damaged_record_of_a_stream_is_named(prepared, tmp_path, cache):
    shutil.copytree(prepared / "array_record" / "tiny", tmp_path / "data" / "tiny")
    how = dict(data_dir=str(tmp_path / "data"), placement="stream", image_size=8)
    lazy = sources.load("tiny", **how)
    (shard,) = (tmp_path / "data" / "tiny" / "1.0.0").glob("tiny-train.array_record*")
    content, times = bytearray(shard.read_bytes()), shard.stat()
    at = [found.start() for found in re.finditer(b"IDAT", content)][7]
    content[at + 6 : at + 14] = bytes(8)
    shard.write_bytes(content)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    lazy = sources.load("tiny", **how)  # what labels it has is known
    said = "1.0.0: record 7 of the split 'train' cannot be read"
    with pytest.raises(UserError, match=said):
        lazy.images_NHWC[:]
    (shard,) = shard.parent.glob("tiny-test.array_record*")
    shard.write_bytes(shard.read_bytes()[:-100])
    first = np.load(next(cache.glob("*labels*/test_order.npy")))[0]
    said = f"record {first} of the split 'test' cannot be read"
    with pytest.raises(UserError, match=said):
        lazy.test_images_MHWC[:]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shapes", r"shape unlike the first: train row train_7 is \(9, 6, 3\).*\(8, 6"),
        ("labels", "outside the classes: train row train_5 has label -1.*2 classes"),
        ("unlabeled", "unlabeled has the features image: it must have"),
        ("tinny", "unknown data set 'tinny'"),
        ("cifar", "did you mean cifar10"),
        ("imagenette/nope", "no such config or version of imagenette"),
        ("mnist:9.9.9", "no such config or version of mnist"),
    ],
)
def test_data_that_cannot_be_used(prepared, cache, name, message):
    with pytest.raises(UserError, match=message):
        sources.load(name, data_dir=str(prepared / "array_record"))
    assert not cache.exists() or not os.listdir(cache)


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="config.data.dir='/no/where' is no folder"):
        sources.load("mnist", data_dir="/no/where")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    with pytest.raises(UserError, match="TFDS_DATA_DIR='.*none' is no folder"):
        sources.load("mnist")


def test_without_network_the_error_says_what_works(tmp_path, cache):
    (tmp_path / "data").mkdir()
    output = run(TESTS / "tfds_files.py", "advice", tmp_path / "data")
    assert "holds needy/1.0.0, or copy one there" in output
    assert f"into {tmp_path}/data/downloads/manual and start again" in output
    assert "needed.bin from http://localhost:9/needed.bin" in output
    assert "left behind: []" in output
    assert "greys: [7, 8]" in output  # after the file was put there


def test_another_file_format_and_the_command_that_converts_it(prepared, tmp_path):
    with pytest.raises(UserError, match="is prepared as tfrecord") as caught:
        sources.load("tiny", data_dir=str(prepared / "tfrecord"))
    program, *command = shlex.split(str(caught.value).split("`")[1])
    assert program == "python"
    run(*command, tmp_path / "elsewhere")  # as for a folder that must not change
    with pytest.raises(UserError, match="is prepared as tfrecord"):
        sources.load("tiny", data_dir=str(prepared / "tfrecord"))
    run(*command)
    expected = sources.load("tiny", data_dir=str(prepared / "array_record"))
    for folder in (prepared / "tfrecord", tmp_path / "elsewhere"):
        converted = sources.load("tiny", data_dir=str(folder))
        for name in ARRAYS:
            np.testing.assert_array_equal(
                getattr(converted, name), getattr(expected, name)
            )
        assert converted.class_names == expected.class_names


def test_a_damaged_copy_is_named(prepared, tmp_path):
    shutil.copytree(prepared / "array_record" / "tiny", tmp_path / "data" / "tiny")
    (shard,) = (tmp_path / "data" / "tiny" / "1.0.0").glob("tiny-test.array_record*")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match="1.0.0: the split 'test' cannot be read"):
        sources.load("tiny", data_dir=str(tmp_path / "data"))


def test_the_cache_is_read_only_and_follows_the_data(prepared, cache):
    folder = prepared / "array_record"
    data = sources.load("tiny", data_dir=str(folder))
    assert isinstance(data.images_NHWC, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.images_NHWC[0] = 0
    os.utime(folder / "tiny" / "1.0.0" / "dataset_info.json")  # prepared anew
    sources.load("tiny", data_dir=str(folder))
    assert len(os.listdir(cache)) == 2


def test_a_cache_that_cannot_be_written(prepared, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="file/cache cannot be written.*SSL_JAX_CACHE"):
        sources.load("tiny", data_dir=str(prepared / "array_record"))


def test_a_killed_process_leaves_no_cache_and_two_at_once_do_no_harm(prepared, cache):
    load = f"sources.load('tiny', data_dir={str(prepared / 'array_record')!r})"
    load = f"from ssl_jax.data import cache, sources; {load}"
    kill = "import os; cache._publish = lambda *_: os.kill(os.getpid(), 9); sources"
    kill = load.replace("sources.load", f"{kill}.load")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", kill], env=environment)
    assert killed.returncode == -9
    assert all(name.startswith(".building-") for name in os.listdir(cache))
    command = [sys.executable, "-c", load]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    data = sources.load("tiny", data_dir=str(prepared / "array_record"))
    assert data.images_NHWC.shape == (12, 8, 6, 3)
    assert len([n for n in os.listdir(cache) if not n.startswith(".")]) == 1


def test_leftovers_of_killed_processes_are_removed_after_a_day(prepared, cache):
    for name, age in ((".building-old", 2 * 86_400), (".building-now", 0)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    sources.load("tiny", data_dir=str(prepared / "array_record"))
    assert not (cache / ".building-old").exists()
    assert (cache / ".building-now").exists()


@pytest.mark.skipif(not (REAL / "cifar10").is_dir(), reason=f"no real data in {REAL}")
def test_real_data_is_read_without_tensorflow_and_at_once_from_the_cache():
    program = (
        "import sys; from ssl_jax.data import sources;"
        "[sources.load(name, data_dir=sys.argv[1]) for name in ('cifar10', 'mnist')];"
        "print('tensorflow' in sys.modules, 'tensorflow_datasets' in sys.modules)"
    )
    assert run("-c", program, REAL) == "False True\n"
    assert run("-c", program, REAL) == "False False\n"  # the second start
    start = time.perf_counter()
    cifar10 = sources.load("cifar10", data_dir=str(REAL))
    assert cifar10.images_NHWC[:].sum() > 0
    assert time.perf_counter() - start < 1
    assert cifar10.images_NHWC.shape == (50_000, 32, 32, 3)
    assert cifar10.test_images_MHWC.shape == (10_000, 32, 32, 3)
    # The first labels of data_batch_1.bin and test_batch.bin, in the original order.
    assert cifar10.labels_N[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert cifar10.test_labels_M[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert np.bincount(cifar10.labels_N).tolist() == [5_000] * 10
    mean_C = np.stack([block.mean((0, 1, 2)) for block in np.split(cifar10[1], 10)])
    np.testing.assert_allclose(
        mean_C.mean(0) / 255, (0.49140, 0.48216, 0.44653), atol=1e-5
    )
    mnist = sources.load("mnist", data_dir=str(REAL))
    assert mnist.images_NHWC.shape == (60_000, 28, 28, 1)
    # The original files begin so, although tfds stores its rows shuffled.
    assert mnist.labels_N[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test_labels_M[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


STRIPES = """
import numpy as np

from ssl_jax.data.dataset import of_arrays

MAY_CHANGE = True


def serves(name):
    return name == "stripes"


def load(wanted):
    side = wanted.image_size or 6
    images_NHWC = np.zeros((20, side, side, 1), np.uint8)
    images_NHWC[::2, ::2], images_NHWC[1::2, :, ::2] = 200, 200
    return of_arrays(images_NHWC, np.arange(20) % 2, name=wanted.name)
"""


def test_a_new_source_is_one_file_anywhere(tmp_path, monkeypatch):
    (tmp_path / "stripes.py").write_text(STRIPES)
    (tmp_path / "helper.py").write_text("")  # says nothing of what it serves
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    try:
        data = sources.load("stripes", image_size=4)
        assert data.images_NHWC.shape == (20, 4, 4, 1)
        assert sources.may_change("stripes") and not sources.is_graph("stripes")
        given = loading.load(
            Wanted(name="stripes", num_labels=4), core.make_mesh(), seed=0
        )
        assert given.dataset.name == "stripes" and len(given.split.labeled) == 4
    finally:
        for name in ("stripes", "helper"):
            sys.modules.pop(f"ssl_jax.data.sources.{name}", None)
            vars(sources).pop(name, None)


def test_a_source_says_what_it_is():
    kinds = {
        name: sources.find(name).__name__.rpartition(".")[2]
        for name in ("digits", "digits_tutorial", "folder", "cora", "stl10", "mnist")
    }
    assert list(kinds.values()) == [
        *("digits", "digits", "folder", "planetoid", "stl10", "tfds_source")
    ]
    streams = [getattr(sources.find(name), "STREAMS", False) for name in kinds]
    assert streams == [name in ("folder", "mnist") for name in kinds]
    assert sources.find("stl10:1.0.0").__name__.endswith("stl10")
    assert sources.find("stl10_more").__name__.endswith("tfds_source")
    assert [name for name in kinds if sources.may_change(name)] == ["folder"]
    assert [name for name in kinds if sources.is_graph(name)] == ["cora"]
    with pytest.raises(UserError, match="'cora' is a graph, and no phase"):
        sources.load("cora")
