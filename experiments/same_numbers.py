"""Does this checkout compute what another commit did, bit for bit?

    python -m experiments.same_numbers [--base=HEAD] [--quick] [--only=fixmatch,byol]
        [--data_dir=TFDS] [--planetoid_dir=DIR] [--reuse=WORKDIRS]

Makes a git worktree of the base in a temporary folder, trains the same commands there
and in the checkout that this file is in, changes not committed included, and prints a
line for each: equal, or what differs first. Compared are the newest checkpoint of each
phase (every array by name, and the stored checksum), result.json, metrics.jsonl and
what else a run leaves in numbers: all but times, versions, paths and the command. Of
the configuration, the fields that both have. Exits with status 1 if anything differs,
and then says where the runs are.

`--reuse`: a folder with finished workdirs of the base, by the commands' names, such as
WORKDIRS/fixmatch; what is there is not trained again. `--quick` adds `:debug`.
"""

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags, logging

from experiments.checkouts import ROOT, worktree

BASE = flags.DEFINE_string("base", "HEAD", "the commit to compare with")
QUICK = flags.DEFINE_bool("quick", False, "a few steps on digits, by :debug")
ONLY = flags.DEFINE_list("only", [], "names of commands; default: all")
DATA_DIR = flags.DEFINE_string("data_dir", "", "where tfds has MNIST")
PLANETOID_DIR = flags.DEFINE_string("planetoid_dir", "", "the folder of Cora's files")
REUSE = flags.DEFINE_string("reuse", "", "finished workdirs of the base")

APART = {
    *("seconds", "compile_seconds", "images_per_second"),
    *("versions", "git", "command"),
}


@dataclasses.dataclass(frozen=True)
class Command:
    """One training.

    Attributes:
      configs: spellings of --config; a checkout takes the first whose file it has.
      flags: the rest.
      data: the flag of ours with the folder that its data lies in, if any.
    """

    configs: tuple[str, ...]
    flags: tuple[str, ...] = ()
    data: str = ""


def digits(method: str, *flags: str) -> Command:
    spellings = (f"configs/digits.py:{method}", f"configs/{method}_digits.py")
    return Command(spellings, flags)


GCN, SEEDS = ("configs/gcn_cora.py",), "--config.num_seeds=3"
COMMANDS = {
    "fixmatch": digits("fixmatch"),
    "flexmatch": digits("flexmatch"),
    "remixmatch": digits("remixmatch"),
    "byol": Command(("configs/byol_digits.py",)),
    "noisy_student": digits("noisy_student"),
    "softmatch_cta": digits("softmatch", "--config.train.augment.strong=ctaugment"),
    "autoencoder": Command(("configs/autoencoder_mnist.py",), data="data_dir"),
    "pseudo_label": Command(("configs/pseudo_label_mnist.py",), data="data_dir"),
    "gcn": Command(GCN, (SEEDS,), data="planetoid_dir"),
    "gcn1": Command(GCN, data="planetoid_dir"),
    "active": Command(("configs/active_digits.py",)),
}


def main(_):
    logging.set_verbosity(logging.ERROR)  # orbax tells of every file
    names = ONLY.value or list(COMMANDS)
    if unknown := sorted(set(names) - COMMANDS.keys()):
        raise app.UsageError(f"--only={unknown[0]}; there are {', '.join(COMMANDS)}")
    for name in names:
        needed = COMMANDS[name].data
        if needed and not (QUICK.value or flags.FLAGS[needed].value):
            raise app.UsageError(f"{name} needs --{needed}; or leave it out by --only")
    folder = Path(tempfile.mkdtemp(prefix="same_numbers-"))
    same = True
    with worktree(BASE.value, folder / "base_checkout") as checkout:
        for name in names:
            there = Path(REUSE.value or folder / "base", name).absolute()
            here = folder / "here" / name
            seconds = [train(name, checkout, there), train(name, ROOT, here)]
            said = next(differences(there, here), "")
            same &= not said
            took = " and ".join(f"{s:.0f} s" for s in seconds)
            print(f"{name}: {said or 'equal'} ({counted(here)}; {took})", flush=True)
    if not same:
        sys.exit(f"they differ; the runs are in {folder}")
    shutil.rmtree(folder)


def train(name: str, checkout: Path, workdir: Path) -> float:
    """Runs a command in `checkout`, if `workdir` is not there; returns its seconds.

    Raises:
      RuntimeError: it failed; the message has the end of what it said.
    """
    if (workdir / "result.json").exists():
        return 0.0
    workdir.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    process = subprocess.run(
        [
            sys.executable,
            "launch.py",
            f"--workdir={workdir}",
            *arguments(name, checkout),
        ],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(f"{name} failed in {checkout}:\n{process.stdout[-2000:]}")
    return time.monotonic() - began


def arguments(name: str, checkout: Path) -> list[str]:
    """launch.py's, but for --workdir, in the spelling of `checkout`."""
    command = COMMANDS[name]
    config = spelling(command.configs, checkout)
    more = [*command.flags, "--config.tensorboard=False"]
    if QUICK.value:
        config += ",debug" if ":" in config else ":debug"
    elif command.data:
        more.append(f"--config.data.dir={flags.FLAGS[command.data].value}")
    return [f"--config={config}", *more]


def spelling(configs: tuple[str, ...], checkout: Path) -> str:
    """The first of `configs` whose file is in `checkout`.

    Raises:
      RuntimeError: none is.
    """
    for config in configs:
        if (checkout / config.partition(":")[0]).exists():
            return config
    raise RuntimeError(f"{checkout} has none of {', '.join(configs)}")


def differences(there: Path, here: Path) -> Iterator[str]:
    """What differs between two workdirs, one line each."""
    files = [left(there), left(here)]
    for file in sorted(files[0] ^ files[1]):
        yield f"{file} is only {'there' if file in files[0] else 'here'}"
    for file in sorted(files[0] & files[1]):
        contents = [content(workdir / file) for workdir in (there, here)]
        for said in unequal(*contents):
            yield f"{file} {said}"


def left(workdir: Path) -> set[Path]:
    """What a run, or each of the runs in a workdir, left in numbers: files, and the
    folder of the newest checkpoint of each phase; relative to `workdir`."""
    names = ("result.json", "metrics.jsonl", "round.json", "done.json")
    files = itertools.chain(*map(workdir.rglob, (*names, "*.npz", "*.csv")))
    newest = [
        max((step for step in folder.iterdir() if step.name.isdigit()), key=_number)
        for folder in workdir.rglob("checkpoints")
    ]
    return {path.relative_to(workdir) for path in (*files, *newest)}


def _number(step):
    return int(step.name)


def content(path: Path) -> dict:
    """What is compared of a file or a checkpoint, by name."""
    if path.is_dir():
        return checkpoint(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    lines = path.read_text().splitlines()
    if path.suffix == ".json":
        return {"": json.loads("".join(lines))}
    read = json.loads if path.suffix == ".jsonl" else str
    return {f"line {i}": read(line) for i, line in enumerate(lines, 1)}


def checkpoint(folder: Path) -> dict:
    """Its arrays by name, and the checksum stored with it; read by orbax alone, so that
    neither side's code decides what is seen."""
    args = ocp.args.Composite(
        state=ocp.args.StandardRestore(), checksum=ocp.args.JsonRestore()
    )
    handler = ocp.CompositeCheckpointHandler()
    with ocp.Checkpointer(handler) as checkpointer:
        restored = checkpointer.restore(folder.absolute(), args=args)
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(restored.state)
    }
    return {**arrays, "checksum": restored.checksum["blake2b"]}


def unequal(there: dict, here: dict) -> Iterator[str]:
    """What differs between two contents, one line each."""
    for name in sorted(there.keys() ^ here.keys()):
        yield f"{name} is only {'there' if name in there else 'here'}"
    for name in there:
        if name not in here:
            continue
        one, other = there[name], here[name]
        compare = unequal_arrays if isinstance(one, np.ndarray) else unequal_json
        for said in compare(one, other):
            yield f"{name}{said}"


def unequal_arrays(there: np.ndarray, here: np.ndarray) -> Iterator[str]:
    """What differs, bit for bit: one line, or none."""
    kinds = [f"{array.dtype}{list(array.shape)}" for array in (there, here)]
    if kinds[0] != kinds[1]:
        yield f": {kinds[0]} there, {kinds[1]} here"
        return
    # NaN is not itself, but the same bits are: elements are compared as bytes.
    elements = [np.ascontiguousarray(a).reshape(-1) for a in (there, here)]
    bits = [each.view(np.uint8).reshape(-1, each.itemsize) for each in elements]
    (wrong,) = np.nonzero((bits[0] != bits[1]).any(axis=1))
    if len(wrong):
        one, other = (element[wrong[0]] for element in elements)
        yield (
            f": {len(wrong):,} of {there.size:,} differ, the first {one!r} there, "
            f"{other!r} here"
        )


def unequal_json(
    there: object, here: object, at: str = "", both: bool = False
) -> Iterator[str]:
    """What differs, one line each.

    Args:
      at: where these lie in their file.
      both: only fields that both have; so it is below "config", whose schema grows.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            if key in APART:
                continue
            if key in there and key in here:
                lenient = both or key == "config"
                yield from unequal_json(there[key], here[key], f"{at}.{key}", lenient)
            elif not both:
                yield f"{at}.{key} is only {'there' if key in there else 'here'}"
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, pair in enumerate(zip(there, here, strict=True)):
            yield from unequal_json(*pair, f"{at}[{i}]", both)
    elif _without_folder(there) != _without_folder(here):
        yield f"{at}: {there!r} there, {here!r} here"


def _without_folder(value):
    is_path = isinstance(value, str) and value.startswith("/")
    return Path(value).name if is_path else value


def counted(workdir: Path) -> str:
    """How much there was to compare."""
    found = [content(workdir / file) for file in sorted(left(workdir))]
    arrays = sum(isinstance(v, np.ndarray) for each in found for v in each.values())
    lines = sum("line 1" in each and len(each) for each in found)
    return f"{len(found)} files, {arrays} arrays, {lines} lines"


if __name__ == "__main__":
    app.run(main)
