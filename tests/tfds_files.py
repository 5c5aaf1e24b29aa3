"""Prepares small data sets by tfds itself, which imports TensorFlow: so, as a program.

python tests/tfds_files.py small FOLDER: into FOLDER/array_record and FOLDER/tfrecord
python tests/tfds_files.py stl10 FOLDER STL10: the real builder, over the binary files
python tests/tfds_files.py advice FOLDER: loads what cannot be downloaded, then does
    what the error says
"""

import hashlib
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds

URL = "http://localhost:9/needed.bin"  # nobody listens there
NEEDED = b"\x07\x08"
IMAGE = tfds.features.Image(shape=(None, None, 3))
LABEL = tfds.features.ClassLabel(names=["cat", "dog"])
ALL = {"id": tfds.features.Text(), "image": IMAGE, "label": LABEL}


class _Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """12 images of 8x6 a split; ids have no leading zeros: train_9, train_10."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES = ALL
    SPLITS = ("train", "test")

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {s: self._generate_examples(s) for s in self.SPLITS}

    def _generate_examples(self, split):
        for i in range(12):
            row = {
                "id": f"{split}_{i}",
                "image": np.full((self.height(i), 6, 3), 10 * i, np.uint8),
                "label": self.label(i),
            }
            yield i, {key: row[key] for key in self.FEATURES}

    def height(self, i):
        return 8

    def label(self, i):
        return i % 2


class Tiny(_Small):
    pass


class Shapes(_Small):
    def height(self, i):
        return 8 + (i == 7)


class Labels(_Small):
    def label(self, i):
        return -1 if i == 5 else 0


class Unlabeled(_Small):
    FEATURES = {"image": IMAGE}


class Extra(_Small):
    SPLITS = ("train", "extra", "test")


class Needy(tfds.core.GeneratorBasedBuilder):
    """Makes an image of every byte of a file that must be downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = {
        URL: tfds.download.checksums.UrlInfo(
            size=len(NEEDED),
            checksum=hashlib.sha256(NEEDED).hexdigest(),
            filename="needed.bin",
        )
    }

    def _info(self):
        features = tfds.features.FeaturesDict({"image": IMAGE, "label": LABEL})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        path = dl_manager.download(URL)
        return {s: self._generate_examples(path) for s in ("train", "test")}

    def _generate_examples(self, path):
        for i, grey in enumerate(path.read_bytes()):
            yield i, {"image": np.full((4, 4, 3), grey, np.uint8), "label": i % 2}


def small(folder: Path) -> None:
    for builder in (Tiny, Shapes, Labels, Unlabeled, Extra):
        builder(
            data_dir=folder / "array_record", file_format="array_record"
        ).download_and_prepare()
    Tiny(data_dir=folder / "tfrecord").download_and_prepare()


def stl10(folder: Path, binary: Path) -> None:
    with mock.patch.object(
        tfds.download.DownloadManager,
        "download_and_extract",
        return_value=binary.parent,
    ):
        tfds.builder(
            "stl10", data_dir=folder, file_format="array_record"
        ).download_and_prepare()


def advice(folder: Path) -> None:
    from ssl_jax.data import sources
    from ssl_jax.errors import UserError

    try:
        sources.load("needy", data_dir=str(folder))
    except UserError as error:
        print(error)
    print("left behind:", [str(path) for path in folder.rglob("*")])
    manual = folder / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "needed.bin").write_bytes(NEEDED)
    dataset = sources.load("needy", data_dir=str(folder))
    print("greys:", sorted(dataset.images_NHWC[:, 0, 0, 0].tolist()))


if __name__ == "__main__":
    what = {"small": small, "stl10": stl10, "advice": advice}[sys.argv[1]]
    what(*map(Path, sys.argv[2:]))
