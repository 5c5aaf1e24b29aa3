"""Finds the folder of a data set of TensorFlow Datasets, or has tfds prepare it.

Order: an array_record copy below the data folder, else download and prepare one.
"""

import difflib
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from ssl_jax.errors import UserError

_CONNECT_TIMEOUT = 20  # seconds


def data_root(data_dir: str) -> Path:
    """The folder with tfds' data: `data_dir`, else TFDS_DATA_DIR, else the default."""
    given = data_dir or os.environ.get("TFDS_DATA_DIR", "")
    root = Path(given or "~/tensorflow_datasets").expanduser()
    if given and not root.is_dir():
        setting = "config.data.dir" if data_dir else "TFDS_DATA_DIR"
        raise UserError(
            f"{setting}={given!r} is no folder: create it, or give the folder that "
            "holds data sets such as cifar10/3.0.2."
        )
    return root.absolute()


def find_prepared(root: Path, name: str) -> Path | None:
    """The newest version of `name` under `root` in array_record form, if any.

    Found by looking at files: importing tfds takes longer than reading the cache.

    Raises:
      UserError: there is a copy, but only in another file format.
    """
    base, _, version = name.partition(":")
    folders = [
        path.parent
        for path in (root / base).glob(f"{version or '*'}/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    ]
    if not folders:
        return None
    folders.sort(key=lambda folder: [int(part) for part in folder.name.split(".")])
    for folder in reversed(folders):
        info = json.loads((folder / "dataset_info.json").read_text())
        formats = [info.get("fileFormat"), *info.get("alternativeFileFormats", ())]
        if "array_record" in formats:
            return folder
    command = f"python -m ssl_jax.data.convert {shlex.quote(str(folders[-1]))}"
    raise UserError(
        f"{folders[-1]} is prepared as {formats[0] or 'tfrecord'}, which has no random "
        f"access: run `{command}`, which adds array_record files to it. Where that "
        "folder must not change, add a new data folder to the command, and give that "
        "as config.data.dir."
    )


def prepare(root: Path, name: str) -> Path:
    """Downloads and prepares `name` below `root`, as array_record; the new folder.

    Raises:
      UserError: tfds has no such data set, or could not prepare it; says which files
        to put where.
    """
    quiet_tensorflow()
    import tensorflow_datasets as tfds

    base, _, version = name.partition(":")
    dataset, _, config = base.partition("/")
    known = tfds.list_builders(with_community_datasets=False)
    if dataset not in known:
        close = difflib.get_close_matches(dataset.lower(), ["digits", *known])
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UserError(
            f"unknown data set {name!r}: {hint}There are digits, stl10, what lies "
            f"prepared in {root}, and the {len(known)} data sets of "
            "https://www.tensorflow.org/datasets/catalog/overview."
        )
    if not config and (default := tfds.builder_cls(dataset).default_builder_config):
        name = f"{dataset}/{default.name}" + f":{version}" * bool(version)
        if folder := find_prepared(root, name):
            return folder
    try:
        builder = tfds.builder(name, data_dir=root, file_format="array_record")
    except (AssertionError, ValueError, tfds.core.DatasetNotFoundError) as error:
        raise UserError(
            f"{name!r}: no such config or version of {dataset} in TensorFlow Datasets "
            f"or {root}; leave it out, or use one that there is. {error}"
        ) from error
    check_features(name, builder.info.features)
    manual = root / "downloads" / "manual"
    before = _partial_downloads(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _check_writable(root)
        _check_network(root, builder.url_infos, manual)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=manual, try_download_gcs=False
            )
        )
    except Exception as error:  # whatever the data set's own builder raises
        raise UserError(_how_to_prepare(root, name, builder, manual, error)) from error
    finally:
        for left in _partial_downloads(root) - before:
            shutil.rmtree(left)
    return Path(builder.data_path)


def quiet_tensorflow() -> None:
    """Before it is imported: it tells of oneDNN and of instructions of the CPU that it
    could use, twice."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def check_features(name: str, features) -> None:
    """Raises UserError unless `features` has an 8-bit image and a class label."""
    import tensorflow_datasets as tfds

    image, label = (dict(features).get(key) for key in ("image", "label"))
    if not (
        isinstance(image, tfds.features.Image)
        and image.np_dtype == np.uint8  # `image.dtype` would import TensorFlow
        and isinstance(label, tfds.features.ClassLabel)
    ):
        raise UserError(
            f"{name} has the features {', '.join(features)}: it must have an 8-bit "
            "image named 'image' and a class label named 'label'; use another data set."
        )


def _check_writable(root: Path) -> None:
    if not os.access(root, os.W_OK):
        raise PermissionError(f"{root} is not writable")


def _check_network(root: Path, url_infos: dict, manual: Path) -> None:
    """Fails within seconds without network: tfds itself tries again for 3 minutes.

    Raises:
      OSError: a host cannot be reached, and no file was downloaded or put here yet.
    """
    import requests  # tfds downloads with it, through the same proxies

    here = {path.name for path in manual.glob("*")}
    if here & {info.filename for info in url_infos.values()}:
        return
    if any((root / "downloads").rglob("*.INFO")):  # beside what tfds downloaded
        return
    hosts = {urlsplit(url).netloc: url for url in url_infos}
    for url in hosts.values():
        if url.startswith("http"):
            requests.head(url, timeout=_CONNECT_TIMEOUT)


def _partial_downloads(root: Path) -> set[Path]:
    """Folders that tfds downloads into, and leaves behind when it fails."""
    return set((root / "downloads").glob("**/*.tmp.*"))


def _how_to_prepare(
    root: Path, name: str, builder, manual: Path, error: Exception
) -> str:
    """What to do where tfds could not prepare a data set."""
    reason = str(error).strip().split("\n")[0]
    relative = Path(builder.data_path).relative_to(root)
    command = (
        "import tensorflow_datasets as tfds; "
        f"tfds.builder({name!r}, data_dir='DIR', file_format='array_record')"
        ".download_and_prepare()"
    )
    files = "".join(
        f"\n     {info.filename} from {url}"
        for url, info in builder.url_infos.items()
        if info.filename
    )
    lines = [
        f"{name} is not in {root} (config.data.dir, else TFDS_DATA_DIR), and cannot be "
        f"prepared there ({type(error).__name__}: {reason}). Either",
        f"1. give a folder that holds {relative}, or copy one there; where there is a "
        f'network it is made by: mkdir DIR; python -c "{command}"',
    ]
    if files:
        lines.append(
            f"2. or put these files (of several variants, those of {name}) into "
            f"{manual} and start again:{files}"
        )
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        lines.append(
            f"This data set asks for files in {manual}: "
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS.strip()}"
        )
    return "\n".join(lines)
