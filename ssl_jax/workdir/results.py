"""result.json: what a run leaves, written and read."""

import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from ssl_jax import __version__
from ssl_jax.errors import UserError
from ssl_jax.workdir.settings import plain


def of_run(
    config: Mapping, device: Mapping, done: Mapping[str, dict], resumed: int
) -> dict:
    """What result.json holds, from each phase's entry (design, section 5)."""
    tests = [phase["test"] for phase in done.values() if phase["test"]]
    probes = [phase["probe"] for phase in done.values() if "probe" in phase]
    return {
        "name": config["name"],
        "seed": config["seed"],
        "config": plain(config),
        "device": device,
        "versions": versions(),
        "phases": dict(done),
        "test": tests[-1] if tests else {},
        **({"probe": probes[-1]} if probes else {}),
        "resumed": resumed,
    }


def device(mesh) -> dict:
    """What trains: of a jax.sharding.Mesh, the kind of its devices and how many."""
    return {"kind": mesh.devices.flat[0].device_kind, "count": mesh.size}


def versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"ssl_jax": __version__, "python": platform.python_version(), **found}


def read(paths: Iterable[str | Path]) -> list[dict]:
    """The results in files, and in folders and their subfolders' result.json: a run's
    workdir, a folder of such, or one of an experiment. What else lies there is skipped.

    Raises:
      UserError: a path is not there, or no result and has none.
    """
    files = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(
                f"{path} does not exist; give result.json files or folders."
            )
        inside = [path]
        if path.is_dir():
            inside = sorted([*path.glob("*.json"), *path.glob("*/result.json")])
        found = {file.resolve(): _json(file) for file in inside}
        found = {file: result for file, result in found.items() if _is_result(result)}
        if not found and (path / "config.json").exists():
            raise UserError(
                f"the run in {path} is not finished; finish or leave it out."
            )
        if not found:
            raise UserError(
                f"{path} has no result; give result.json files or folders of such."
            )
        files |= found
    return [run for result in files.values() for run in _each_seed(result)]


def _each_seed(result):
    """The runs that were trained at once (many_seeds.py) apart."""
    return [{**result, **one} for one in result.get("seeds", [{}])]


def _is_result(found):
    wanted = {"name", "seed", "config", "phases", "test"}
    return isinstance(found, dict) and wanted <= found.keys()


def _json(path):
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # JSON's and Unicode's
        raise UserError(f"{path} is not JSON ({error}); leave it out.") from error
