"""result.json: what a run leaves, written and read; and tables, many runs in a file.

A table's file, <table>.jsonl, has a line a run,

    {"run": "fixmatch", "seed": 3, "config": "9c1f0a2b", "versions": "40be77d1", ...}

with the fields of its result.json, but that the configuration (without the seed), the
versions and what data was found are named by a hash of theirs. Each stands once, in a
line of its own:

    {"id": "9c1f0a2b", "config": {...}}

What is no run but measured (a speed) has such a line as well, with the fields it has.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jax import __version__
from ssl_jax.errors import UserError
from ssl_jax.workdir.files import write_atomically
from ssl_jax.workdir.settings import CONFIG, plain

RESULT = "result.json"
ROUND = "round.json"  # beside the result of each round of a simulation
PACKAGE = Path(__file__).parents[1]
ONCE = (
    "config",
    "versions",
    "data",
)  # fields that a table's file has once for all its runs

# Run's name -> its results, by seed.
Table = Mapping[str, Sequence[dict]]


def of_run(
    config: Mapping,
    device: Mapping,
    found: Mapping,
    done: Mapping[str, dict],
    resumed: int,
) -> dict:
    """What result.json holds, from what data was found (data/found.py) and each phase's
    entry (design, section 5)."""
    tests = [phase["test"] for phase in done.values() if phase["test"]]
    probes = [phase["probe"] for phase in done.values() if "probe" in phase]
    return {
        "name": config["name"],
        "seed": config["seed"],
        "config": plain(config),
        "device": device,
        "versions": versions(),
        "git": git_state(),
        "data": dict(found),
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


@functools.cache  # what the first call finds: the files may change as a run goes on
def git_state(folder: Path = PACKAGE) -> dict | None:
    """The commit that this code is of, and whether nothing in its checkout differs
    from that: no change, no file that git neither knows nor ignores. None where
    `folder` is in no checkout, or there is no git: installed, say."""
    # A hook's or a rebase's would lead elsewhere.
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}

    def git(*words):
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            env=env,
            text=True,
            timeout=30,
        ).stdout.strip()

    try:
        # An environment that lies in another project's checkout is no part of that.
        git("ls-files", "--error-unmatch", "__init__.py")
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "clean": not changes}


def read(paths: Iterable[str | Path]) -> list[dict]:
    """The results in files and in folders: a result.json, a run's workdir, a folder of
    such, a table's file or a folder with some. What else lies there is skipped, and so
    are a simulation's rounds, whose result is the last one's: give their own workdirs.

    Raises:
      UserError: a path is not there, or no result and has none.
    """
    files = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(
                f"{path} does not exist; give result.json files, tables' .jsonl files "
                "or folders."
            )
        inside = [path]
        if path.is_dir():
            files_of = ("*.json", "*.jsonl", f"*/{RESULT}")
            inside = sorted(file for of in files_of for file in path.glob(of))
            rounds = {file.parent for file in path.glob(f"*/{ROUND}")}
            inside = [file for file in inside if file.parent not in rounds]
        found = {file.resolve(): _results(file) for file in inside}
        found = {file: of_file for file, of_file in found.items() if of_file}
        if not found and (path / CONFIG).exists():
            raise UserError(
                f"the run in {path} is not finished; finish or leave it out."
            )
        if not found:
            raise UserError(
                f"{path} has no result; give result.json files, tables' .jsonl files "
                "or folders of such."
            )
        files |= found
    return [
        run for of_file in files.values() for one in of_file for run in each_seed(one)
    ]


def read_table(path: Path) -> dict[str, list[dict]]:
    """Run's name -> its results, by seed, of a table's file; of none, nothing.

    Raises:
      UserError: a line is no JSON, or names what no line holds.
    """
    lines = [_parsed(line, f"{path}, line {i}") for i, line in _numbered(path)]
    once = {  # as text: each run gets its own
        (field, line["id"]): json.dumps(line[field])
        for line in lines
        for field in ONCE
        if "id" in line and field in line
    }
    table = {}
    for line in lines:
        if "run" not in line:
            continue
        result = {field: value for field, value in line.items() if field != "run"}
        for field in ONCE:
            name = result.get(field)
            if isinstance(name, str):
                if (field, name) not in once:
                    raise UserError(f"{path} has no {field} {name}; restore the file.")
                result[field] = json.loads(once[field, name])
        if "seed" in result and "config" in result:
            result["config"].setdefault("seed", result["seed"])
        table.setdefault(line["run"], []).append(result)
    return table


def add_to_table(path: Path, run: str, result: dict) -> None:
    """Puts a run's result into a table's file, in the place of the one that the run has
    with this seed. Several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        table = read_table(path)
        there = table.get(run, [])
        if result in there:
            return
        others = [one for one in there if one.get("seed") != result.get("seed")]
        both = sorted([*others, result], key=lambda one: one.get("seed", 0))
        write_table(path, {**table, run: both})


def write_table(path: Path, table: Table) -> None:
    """The runs by name, and before each those of its `ONCE` that are new."""
    once, lines = set(), []
    for run, results in sorted(table.items()):
        for result in results:
            line = {"run": run, **result}
            config = result.get("config", {})
            if "seed" in config and config["seed"] == result.get("seed"):
                line["config"] = {k: v for k, v in config.items() if k != "seed"}
            for field in ONCE:
                if field not in line:
                    continue
                text = json.dumps(line[field], sort_keys=True)
                name = hashlib.sha256(text.encode()).hexdigest()[:8]
                if name not in once:
                    once.add(name)
                    lines.append(f'{{"id": "{name}", "{field}": {text}}}')
                line[field] = name
            lines.append(json.dumps(line))
    write_atomically(path, "".join(f"{line}\n" for line in lines))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process is in here."""
    opened = os.open(folder, os.O_RDONLY)  # its end ends the lock
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def each_seed(result: dict) -> list[dict]:
    """The runs that were trained at once (many_seeds.py) apart; of another, itself."""
    return [{**result, **one} for one in result.get("seeds", [{}])]


def _results(file):
    """Those in it; none where it is something else."""
    if file.suffix != ".jsonl":
        found = [read_json(file)]
    else:
        table = read_table(file) if _is_table(file) else {}
        found = [result for results in table.values() for result in results]
    return [result for result in found if _is_result(result)]


def _is_result(found):
    wanted = {"name", "seed", "config", "phases", "test"}
    return isinstance(found, dict) and wanted <= found.keys()


def _is_table(path):
    """Not a journal, say, which may be long or just being written."""
    first = next(_numbered(path), (1, ""))[1]
    return first.startswith(('{"id": ', '{"run": '))


def _numbered(path):
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from enumerate(file, start=1)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      UserError: it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # JSON's and Unicode's
        raise UserError(f"{path} is not JSON ({error}); leave it out.") from error


def _parsed(line, where):
    try:
        return json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}); restore the file.") from error
