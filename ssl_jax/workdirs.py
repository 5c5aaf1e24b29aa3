"""What a workdir holds besides checkpoints and journal: config.json and result.json."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ssl_jax import __version__
from ssl_jax.checkpoints import Checkpoints, write_json
from ssl_jax.core import PyTree, UserError
from ssl_jax.data.cache import Dataset

# What may differ between two launches in one workdir: where things are, what is shown,
# and, in any phase, how often it saves.
FREE = ("tensorboard", "data.dir", "predict.dir")
LABELS = "labels.csv"  # the file data.labels, as it was when the run began
FREE_PHASE = ("checkpoint_every",)


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
    if saved is not None and saved.get("data", _digest(dataset)) != _digest(dataset):
        raise UserError(
            f"workdir {workdir} began with other classes, images or labels than "
            f"{dataset.name} has now: bring these back, or train anew in another "
            "--workdir."
        )


def _digest(dataset):
    """Of what the rows are, but for the pixels."""
    digest = hashlib.blake2b(digest_size=16)
    for names in (dataset.class_names, dataset.names_N):
        digest.update(os.fsencode("\0".join(names)) + b"\1")
    for labels in (dataset.labels_N, dataset.test_labels_M):
        digest.update(np.ascontiguousarray(labels, np.int32).tobytes())
    digest.update(str(dataset.images_NHWC.shape).encode())
    return digest.hexdigest()


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
                    "data": _digest(dataset),
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


def finished_phase(workdir: Path) -> Path:
    """The folder of a phase of another run: `workdir` itself, or if that is a run's
    workdir, of the only phase that it trained.

    Raises:
      UserError: it is no such folder, not trained to its end, or the run trained
        several phases.
    """
    if (workdir / "done.json").exists() and (workdir / "checkpoints").exists():
        return workdir
    saved = _saved(workdir)
    config = saved["config"] if saved else {"phases": []}
    trained = [name for name in config["phases"] if "algorithm" in config[name]]
    if len(trained) > 1:
        raise UserError(
            f"start_from={str(workdir)!r} trained several phases: name one, such as "
            f"{str(workdir / trained[0])!r}."
        )
    if not trained or not (workdir / trained[0] / "done.json").exists():
        raise UserError(
            f"start_from={str(workdir)!r} is neither 'scratch', nor an earlier one of "
            "this run's phases, nor the workdir of a finished run."
        )
    return workdir / trained[0]


def handed_over(start_from: str, keep: tuple[str, ...], workdir: Path) -> PyTree | None:
    """The variables that a phase starts from, for `core.init_state`.

    Args:
      start_from: "scratch", the name of a phase of this run, or another run's workdir
        or phase (`finished_phase`).
      keep: the top-level parts that come along, such as "encoder".

    Raises:
      UserError: there is no such phase or workdir, it is not trained to its end, or it
        has no such part.
    """
    if start_from == "scratch":
        return None
    folder = workdir / start_from
    done = folder / "done.json"
    if not done.exists():
        folder = finished_phase(Path(start_from))
        done = folder / "done.json"
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore_newest()["state"]
    steps = json.loads(done.read_text())["steps"]
    if state["step"] != steps:
        raise UserError(
            f"start_from={start_from!r} was trained for {steps} steps, but its newest "
            f"checkpoint is of step {state['step']}: delete {done} and run its command "
            "again."
        )
    variables = {"params": state["params"], **state["model_state"]}
    return kept(variables, keep, start_from)


def kept(variables: PyTree, keep: tuple[str, ...], start_from: str) -> PyTree:
    """The top-level parts `keep` of what the phase `start_from` trained.

    Raises:
      UserError: it has no such part.
    """
    missing = set(keep) - set(variables["params"])
    if missing:
        raise UserError(
            f"keep names {sorted(missing)}, but what {start_from!r} trained has "
            f"{sorted(variables['params'])}."
        )
    return {
        collection: {part: parts[part] for part in keep if part in parts}
        for collection, parts in variables.items()
    }


def result(config: ConfigDict, mesh: Mesh, done: dict, resumed: int) -> dict:
    """What result.json holds, from each phase's entry (design, section 5)."""
    tests = [phase["test"] for phase in done.values() if phase["test"]]
    probes = [phase["probe"] for phase in done.values() if "probe" in phase]
    return {
        "name": config.name,
        "seed": config.seed,
        "config": plain(config),
        "device": device(mesh),
        "versions": versions(),
        "phases": done,
        "test": tests[-1] if tests else {},
        **({"probe": probes[-1]} if probes else {}),
        "resumed": resumed,
    }


def plain(config: ConfigDict) -> dict:
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def device(mesh: Mesh) -> dict:
    return {"kind": mesh.devices.flat[0].device_kind, "count": mesh.size}


def versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"ssl_jax": __version__, "python": platform.python_version(), **found}


def _saved(workdir):
    """What config.json says, or None without one."""
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not JSON ({error}); give another --workdir."
        ) from error


@contextlib.contextmanager
def _explained(workdir):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"workdir {workdir} cannot be used ({error.strerror}); "
            "give another --workdir."
        ) from error


def _decisive(config):
    """{"train.steps": "1000", ...}, without what cannot change the result."""
    free = {*FREE, *(f"{name}.{field}" for name in config for field in FREE_PHASE)}
    flat = {name: value for name, value in _flat(config) if name not in free}
    # That there are answers; which, `own_labels` compares.
    flat["data.labels"] = flat.get("data.labels", '""') != '""'
    if flat.get("query.rounds", "0") == "0":  # nothing is asked as it trains
        flat = {k: v for k, v in flat.items() if not k.startswith("query.")}
    return flat


def _flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value)
