"""What a workdir holds besides checkpoints and journal: config.json and result.json."""

import contextlib
import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from ssl_jax.data.dataset import Dataset, digest
from ssl_jax.errors import UserError
from ssl_jax.workdir.files import write_json
from ssl_jax.workdir.results import device, versions
from ssl_jax.workdir.settings import _decisive, _saved, plain

LABELS = "labels.csv"  # the file data.labels, as it was when the run began


def check(workdir: Path, config: ConfigDict, *only: str) -> None:
    """Refuses a workdir that belongs to another configuration; writes nothing.

    Args:
      *only: the sections that must agree, such as "model"; all by default.

    Raises:
      UserError: the configurations differ in something that changes the result, or
        the workdir is a file.
    """
    with _explained(workdir):
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"workdir {workdir} is a file; give another --workdir.")
        saved = _saved(workdir)
    if saved is None:
        return
    there, given = _decisive(saved["config"]), _decisive(plain(config))
    changes = [
        f"  {field} = {there.get(field, 'absent')} there, "
        f"{given.get(field, 'absent')} here"
        for field in sorted(there.keys() | given.keys())
        if there.get(field) != given.get(field)
        and (not only or field.startswith(tuple(f"{name}." for name in only)))
    ]
    if changes:
        raise UserError(
            "\n".join(
                [
                    f"workdir {workdir} belongs to another configuration:",
                    *changes,
                    "Give another --workdir, or the configuration that is there.",
                ]
            )
        )


def own_labels(
    workdir: Path, config: ConfigDict, *, compare: bool = True
) -> ConfigDict:
    """`config` with data.labels as the run in `workdir` began with: the file that the
    user gave may have moved, or hold more answers now.

    Args:
      compare: whether to refuse a file that has changed, as a launch must.

    Raises:
      UserError: it has.
    """
    own, given = workdir / LABELS, config.data.labels
    if not own.exists():
        return config
    if (
        compare
        and Path(given).exists()
        and Path(given).read_bytes() != own.read_bytes()
    ):
        raise UserError(
            f"{given} has other answers than those that workdir {workdir} began with: "
            "give another --workdir to train with them."
        )
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.labels = str(own)
    return config


def check_data(workdir: Path, dataset: Dataset) -> None:
    """Raises UserError unless `dataset` has the classes and the images, by name and
    number, that the run in `workdir` began with."""
    saved = _saved(workdir)
    if saved is not None and saved.get("data", digest(dataset)) != digest(dataset):
        raise UserError(
            f"workdir {workdir} began with other classes, images or labels than "
            f"{dataset.name} has now: bring these back, or train anew in another "
            "--workdir."
        )


def finished(workdir: Path, config: ConfigDict) -> dict | None:
    """The result of a run that is over, else None."""
    path = workdir / "result.json"
    markers = [workdir / name / "done.json" for name in config.phases]
    if not all(file.exists() for file in (path, *markers)):
        return None
    return json.loads(path.read_text())


@contextlib.contextmanager
def opened(
    workdir: Path, config: ConfigDict, mesh: Mesh, dataset: Dataset
) -> Iterator[int]:
    """Creates the workdir, or enters it again, and keeps other processes out.

    Yields:
      How often it was entered before.

    Raises:
      UserError: it cannot be written, another process trains in it, or it belongs to
        another configuration.
    """
    with contextlib.ExitStack() as until_left:
        with _explained(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            # The lock goes with the process, however that ends.
            lock = until_left.enter_context((workdir / "lock").open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"another process is training in workdir {workdir}; wait until it "
                    "ends, or give another --workdir."
                ) from error
            check(workdir, config)  # again: that process may have just ended
            saved = _saved(workdir)
            resumed = 0 if saved is None else saved["resumed"] + 1
            if config.data.labels and not (workdir / LABELS).exists():
                content = Path(config.data.labels).read_bytes()
                (workdir / LABELS).write_bytes(content)
            write_json(
                workdir / "config.json",
                {
                    "config": plain(config),
                    "resumed": resumed,
                    "data": digest(dataset),
                    "device": device(mesh),
                    "versions": versions(),
                    "command": sys.argv,
                },
            )
        try:
            yield resumed
        except UserError:
            _leave_untouched(workdir)
            raise


def _leave_untouched(workdir):
    """Takes back what `opened` wrote if nothing came of it, or the mended
    configuration would be refused there."""
    own = {"config.json", "lock", LABELS}
    if {path.name for path in workdir.iterdir()} <= own:
        shutil.rmtree(workdir)


@contextlib.contextmanager
def _explained(workdir):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"workdir {workdir} cannot be used ({error.strerror}); "
            "give another --workdir."
        ) from error
