"""A data set in a few zip files, each small enough to be carried.

Images lie in lossless WebP, a thousand to a picture, which takes a quarter less than a
PNG for each. A file has a stretch of them; which data set and how many files there are
stands in each, so that one that is missing is noticed.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError

BLOCK, ACROSS = 1000, 20  # images of a picture, and side by side in it
_SETS = ("images_NHWC", "test_images_MHWC")
_LABELS = ("labels_N", "test_labels_M")


def write(dataset: Dataset, folders: list[Path]) -> list[Path]:
    """Files <folder>/<name>.zip, one in each folder, with about as much of the images
    each."""
    blocks = [
        (f"{name}/{start:08}.webp", np.asarray(images[start : start + BLOCK]))
        for name in _SETS
        for images in [getattr(dataset, name)]
        for start in range(0, len(images), BLOCK)
    ]
    head = {
        "name": dataset.name,
        "class_names": dataset.class_names,
        "files": len(folders),
        **{name: getattr(dataset, name).shape for name in _SETS},
    }
    paths = [folder / f"{dataset.name}.zip" for folder in folders]
    shares = np.array_split(np.arange(len(blocks)), len(folders))
    for number, (path, share) in enumerate(zip(paths, shares, strict=True)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
            file.writestr("head.json", json.dumps({**head, "file": number}))
            for name in _LABELS:
                file.writestr(f"{name}.npy", _saved(getattr(dataset, name)))
            for block in share:
                file.writestr(blocks[block][0], _picture(blocks[block][1]))
    return paths


def read(name: str, folder: Path) -> Dataset:
    """The data set whose files lie in folders of `folder`.

    Raises:
      UserError: some of them do not; the message says which do.
    """
    paths, heads = sorted(folder.glob(f"*/{name}.zip")), []
    for path in paths:
        with zipfile.ZipFile(path) as file:
            heads.append(json.loads(file.read("head.json")))
    if not heads or {head["file"] for head in heads} != set(range(heads[0]["files"])):
        raise UserError(
            f"{name} is not whole in {folder}: it has "
            f"{', '.join(str(path) for path in paths) or 'no file of it'}, of "
            f"{heads[0]['files'] if heads else 'all'}; carry the other folders as well "
            "(experiments/gpu.sh bring makes them)."
        )
    arrays = {n: np.empty(heads[0][n], np.uint8) for n in _SETS}
    for path in paths:
        with zipfile.ZipFile(path) as file:
            for label in _LABELS:
                arrays[label] = np.load(io.BytesIO(file.read(f"{label}.npy")))
            for member in file.namelist():
                if member.endswith(".webp"):
                    of, start = member.removesuffix(".webp").split("/")
                    _unpicture(file.read(member), arrays[of][int(start) :][:BLOCK])
    class_names = tuple(heads[0]["class_names"])
    return Dataset(name=name, class_names=class_names, **arrays)


def _saved(array):
    out = io.BytesIO()
    np.save(out, np.asarray(array))
    return out.getvalue()


def _picture(images_BHWC):
    """Rows of ACROSS images; of one channel as three."""
    B, H, W, C = images_BHWC.shape
    rows = -(-B // ACROSS)
    whole = np.zeros((rows * ACROSS, H, W, 3), np.uint8)
    whole[:B] = images_BHWC
    whole = whole.reshape(rows, ACROSS, H, W, 3).transpose(0, 2, 1, 3, 4)
    out = io.BytesIO()
    picture = Image.fromarray(whole.reshape(rows * H, ACROSS * W, 3))
    # Method 4 takes ten times as long, for a twentieth less.
    picture.save(out, "WEBP", lossless=True, exact=True, method=0, quality=50)
    return out.getvalue()


def _unpicture(data, out_BHWC):
    B, H, W, C = out_BHWC.shape
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    rows = whole.shape[0] // H
    whole = whole.reshape(rows, H, ACROSS, W, 3).transpose(0, 2, 1, 3, 4)
    out_BHWC[...] = whole.reshape(rows * ACROSS, H, W, 3)[:B, ..., :C]
