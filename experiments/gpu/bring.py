"""At home: what the GPU's machine lacks, in folders that are carried there.

gpu_bring/1 has the wheels, Cora, and the first half of CIFAR-10; gpu_bring/2 the other.
git ignores them, so that each call has to name those that it needs.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.gpu import packed
from ssl_jax.data import sources
from ssl_jax.errors import UserError

BROUGHT = Path("gpu_bring")
# What runs import and that machine may not have; clu imports wrapt.
WHEELS = ("clu", "ml-collections", "wrapt")
LIMIT = 60 * 2**20  # bytes of a folder: 64 MiB travel, with the code
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")


def bring(data_dir: str, python: str) -> None:
    """Makes the folders anew.

    Args:
      data_dir: with cifar10 as tfds keeps it, and Cora's files in it, in planetoid/ of
        it, or beside it.
      python: version of the other machine's, such as "3.12".

    Raises:
      UserError: the data are not there, or a wheel cannot be had.
    """
    cora = _cora(Path(data_dir))
    dataset = sources.load("cifar10", data_dir=data_dir)
    shutil.rmtree(BROUGHT, ignore_errors=True)
    first = BROUGHT / "1"
    (first / "planetoid").mkdir(parents=True)
    for file in cora:
        shutil.copy(file, first / "planetoid")
    _download(first / "wheels", python)
    packed.write(dataset, [first, BROUGHT / "2"])
    for folder in sorted(BROUGHT.iterdir()):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder}: {size / 2**20:.1f} MiB")
        if size > LIMIT:
            raise UserError(f"{folder} has more than {LIMIT / 2**20:.0f} MiB.")
    print(f"Each call names in `carry` the folder that it brings: {first}, then 2.")


def _cora(data_dir):
    for folder in (data_dir, data_dir / "planetoid", data_dir.parent / "planetoid"):
        if files := sorted(folder.glob("ind.cora.*")):
            return files
    raise UserError(
        f"--data_dir={str(data_dir)!r} has no ind.cora.* files, in planetoid/ or "
        "beside it either: give the folder that has cifar10 and Cora."
    )


def _download(to, python):
    """The wheels, in the versions that the tests passed with."""
    constraints = Path("constraints.txt").read_text().splitlines()
    wanted = [
        line
        for line in constraints
        for name in WHEELS
        if re.match(rf"{re.escape(name)}==", line)
    ]
    command = [
        *(sys.executable, "-m", "pip", "download", "-q", "--no-deps"),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={python}"),
        *(f"--platform={platform}" for platform in PLATFORMS),
        *("-d", str(to), *wanted),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(wanted)} cannot be downloaded:\n{done.stderr}")
