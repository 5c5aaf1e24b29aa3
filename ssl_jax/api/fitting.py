"""A run from a Python session: images in, a classifier out.

What trains is what launch.py trains, by the same configs and into a workdir of the same
kind: `launch.py --mode=query --workdir=...` and the others go on from there.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from ssl_jax.api import finished, pools
from ssl_jax.cli import command_line, config_files, process
from ssl_jax.core import make_mesh
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.errors import UserError
from ssl_jax.train import adapted, pace, run
from ssl_jax.train.classifier import Classifier
from ssl_jax.workdir import logs
from ssl_jax.workdir.files import expanded
from ssl_jax.workdir.workdir import Workdir


def fit(
    images: Any,
    labels: Any = None,
    *,
    unlabeled: Any = None,
    method: str = "fixmatch",
    budget_minutes: float = 0.0,
    workdir: str | os.PathLike | None = None,
    seed: int = 0,
    config: str = "folder",
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Classifier:
    """Trains on images of which some have labels; what it has learned.

        classifier = ssl_jax.fit(images_NHWC, labels_N, budget_minutes=5)
        classifier.predict(new_images)

    The run is launch.py's with the same config, bit for bit on as many devices, and its
    workdir is as any other's: the same call goes on with it, or has its result.

    Args:
      images: one array [N, H, W, C], uint8 or floats in [0, 1], whose size is kept;
        names of N files; or a folder as docs/your_images.md has them.
      labels: N numbers or names, -1 or None where there is none; of a folder a CSV
        file, or None where its folders are the classes.
      unlabeled: more images without a label, in the same form.
      method: a word behind the config's colon, such as "flexmatch" or "supervised";
        "" for a config that is of one method, such as "byol_folder".
      budget_minutes: what all of this may take, within a tenth on a machine that does
        nothing else: the speed is measured, and the steps follow. They are in the
        workdir's config.json, by which the run can be done again. 0: the config's own
        steps.
      workdir: the folder of the run; None: a new one in ./runs.
      seed: of everything random.
      config: its name, or a file.
      settings: other fields of the config: {"train.batch_size": 32}.

    Raises:
      UserError: a mistake in any of these.
      KeyboardInterrupt: it was stopped, and saved; the same call goes on from there.
    """
    began = time.monotonic()
    if not 0 <= budget_minutes < float("inf"):
        raise UserError(
            f"budget_minutes={budget_minutes} must be at least 0; at 0 the config says "
            "how many steps."
        )
    changes = {"seed": seed, **settings}
    dataset, root = None, pools.folder(images)
    if root:
        changes |= _of_folder(root, labels, unlabeled)
    wanted = configured(f"{config}:{method}" if method else config, changes)
    path = _new(wanted.name) if workdir is None else expanded(workdir)
    if not root:
        reading = Reading(wanted.data.white, wanted.data.max_pixels)
        dataset = pools.dataset(
            images,
            labels,
            unlabeled,
            wanted.data.image_size,
            reading,
            classless=not wanted.data.class_folders,
        )
    _set_up(wanted)
    devices = _devices(wanted)
    there = Workdir(path).config
    if budget_minutes and there is not None:
        wanted = pace.as_there(wanted, there)
    elif budget_minutes:
        mesh = make_mesh(devices)
        settled, _ = adapted.to_data(wanted, path, mesh, dataset)
        seconds = 60 * budget_minutes - (time.monotonic() - began)
        wanted = pace.within(ConfigDict(settled), seconds, mesh, dataset)
    logs.say(f"workdir {path}")
    if run.run(wanted, path, devices, dataset) is None:
        raise KeyboardInterrupt(
            f"stopped, and saved; the same call with workdir={str(path)!r} goes on"
        )
    return finished.load(path)


def configured(name: str, changes: Mapping[str, Any]) -> ConfigDict:
    """The config `name`, changed as by launch.py's `--config.FIELD=VALUE`.

    Raises:
      UserError: there is no such config or field, or it cannot have such a value.
    """
    default = config_files.load(name)
    argv = ["fit", f"--config={name}"]
    argv += [f"--config.{field}={value}" for field, value in changes.items()]
    try:
        config, _ = command_line.applied(default, argv)
    except (flags.Error, ValueError) as error:
        raise UserError(str(error)) from error
    return config


def _of_folder(root, labels, unlabeled):
    # Whole paths: what goes on from here may begin in another folder.
    changes = {"data.dir": os.path.abspath(root)}
    if labels is not None:
        if not isinstance(labels, (str, os.PathLike)):
            raise UserError(
                f"labels of the folder {root!r} are {type(labels).__name__}: give the "
                "CSV file that has them, or None where its folders are the classes."
            )
        changes["data.labels"] = os.path.abspath(expanded(os.fsdecode(labels)))
    if unlabeled is not None:
        if not pools.folder(unlabeled):
            raise UserError(
                f"images are in the folder {root!r}, and unlabeled is none: give the "
                "folder of the unlabeled ones."
            )
        changes["data.unlabeled"] = os.path.abspath(pools.folder(unlabeled))
    return changes


def _new(name: str) -> Path:
    """A workdir that is not there yet."""
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def _set_up(config):
    """As launch.py does before JAX has devices; where it has them, they stay."""
    try:
        process.set_up(config)
    except RuntimeError:  # jax_num_cpu_devices comes too late
        process.keep_compiled()


def _devices(config) -> list:
    """All devices, or the most that divide every batch."""
    found = jax.devices()
    sizes = [config[name].get("batch_size", 0) for name in config.phases]
    parts = config.accumulate
    for count in range(len(found), 1, -1):
        if all(size % (count * parts) == 0 for size in sizes):
            return found[:count]
    return found[:1]
