"""What a workdir holds besides checkpoints and journal: config.json and result.json."""

import difflib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ssl_jax import __version__
from ssl_jax.checkpoints import Checkpoints, write_json
from ssl_jax.core import PyTree, UserError

# What may differ between two launches in one workdir: where things are, what is shown.
# Of a phase's fields: how often it saves.
FREE = ("tensorboard",)
FREE_DATA = ("dir",)
FREE_PHASE = ("checkpoint_every",)


def check(workdir: Path, config: ConfigDict) -> None:
    """Refuses a workdir that belongs to another configuration; writes nothing.

    Raises:
      UserError: the configurations differ in something that changes the result, or
        the workdir is a file.
    """
    saved_at = workdir / "config.json"
    if not saved_at.exists():
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"workdir {workdir} is a file; give another --workdir.")
        return
    saved = _decisive(json.loads(saved_at.read_text())["config"])
    given = _decisive(_plain(config))
    if saved != given:
        lines = difflib.unified_diff(
            _lines(saved), _lines(given), "there", "given", lineterm="", n=0
        )
        changes = "\n".join(x for x in lines if not x.startswith("@@"))
        raise UserError(
            f"workdir {workdir} belongs to another configuration:\n{changes}\n"
            "Give another --workdir, or the configuration that is there."
        )


def open_run(workdir: Path, config: ConfigDict, mesh: Mesh) -> int:
    """Creates the workdir, or enters it again; returns how often that was.

    Raises:
      UserError: it cannot be written.
    """
    path = workdir / "config.json"
    resumed = json.loads(path.read_text())["resumed"] + 1 if path.exists() else 0
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(
            path,
            {
                "config": _plain(config),
                "resumed": resumed,
                "device": device(mesh),
                "versions": versions(),
                "command": sys.argv,
            },
        )
    except OSError as error:
        raise UserError(
            f"workdir {workdir} cannot be written ({error.strerror}); "
            "give another --workdir."
        ) from error
    return resumed


def handed_over(start_from: str, keep: tuple[str, ...], workdir: Path) -> PyTree | None:
    """The variables that a phase starts from, for `core.init_state`.

    Args:
      start_from: "scratch", the name of a phase of this run, or another run's workdir
        (its last phase).
      keep: the top-level parts that come along, such as "encoder".

    Raises:
      UserError: there is no such phase or workdir, or no such part in it.
    """
    if start_from == "scratch":
        return None
    folder = workdir / start_from
    other = Path(start_from) / "config.json"
    if other.exists():
        last = json.loads(other.read_text())["config"]["phases"][-1]
        folder = Path(start_from) / last
    if not (folder / "checkpoints").is_dir():
        raise UserError(
            f"start_from={start_from!r} is neither 'scratch', nor an earlier phase of "
            "this run, nor a workdir with a trained phase."
        )
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore_newest()["state"]
    variables = {"params": state["params"], **state["model_state"]}
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
    return {
        "name": config.name,
        "seed": config.seed,
        "config": _plain(config),
        "device": device(mesh),
        "versions": versions(),
        "phases": done,
        "test": tests[-1] if tests else {},
        "resumed": resumed,
    }


def device(mesh: Mesh) -> dict:
    return {"kind": mesh.devices.flat[0].device_kind, "count": mesh.size}


def versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"ssl_jax": __version__, "python": platform.python_version(), **found}


def _plain(config):
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def _decisive(config):
    """The configuration without what cannot change the result."""
    phases = set(config["phases"])
    kept = {k: v for k, v in config.items() if k not in FREE}
    kept["data"] = {k: v for k, v in config["data"].items() if k not in FREE_DATA}
    for name in phases & set(config):
        kept[name] = {k: v for k, v in config[name].items() if k not in FREE_PHASE}
    return kept


def _lines(tree, prefix=""):
    """["train.steps = 1000", ...]."""
    if not isinstance(tree, dict):
        return [f"{prefix} = {json.dumps(tree)}"]
    return [
        line
        for key in sorted(tree)
        for line in _lines(tree[key], f"{prefix}.{key}" if prefix else key)
    ]
