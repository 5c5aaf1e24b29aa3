"""Whether a machine has what parts need: told at once, before any minute is spent.

`python -m experiments.gpu.machine` prints what it found, as JSON; in a process of its
own, so that none of the device's memory is held.
"""

import importlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from ssl_jax.errors import UserError

LIBRARIES = (
    *("jax", "flax", "optax", "orbax.checkpoint", "numpy", "scipy", "sklearn"),
    *("matplotlib", "PIL", "tqdm", "absl", "clu.metrics", "ml_collections"),
)
FREE = 16 * 2**30  # bytes of the device's memory
BRING = "on a machine with a network, run experiments/gpu.sh bring, and carry gpu_bring"


def check(needs: Iterable[str], brought: Path, *, debug: bool) -> dict:
    """What the machine is; `needs` are of "torch", "cifar10" and "cora".

    Args:
      debug: a CPU will do.

    Raises:
      UserError: with all that is missing, and how it comes.
    """
    found = json.loads(
        subprocess.run(
            [sys.executable, "-m", "experiments.gpu.machine", *sorted(set(needs))],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.splitlines()[-1]
    )
    wrong = list(lacks(found, set(needs), brought, debug=debug))
    if wrong:
        raise UserError("this machine lacks:\n" + "\n".join(f"  {w}" for w in wrong))
    return found


def lacks(found: dict, needs: set[str], brought: Path, *, debug: bool):
    """A message for each thing that is missing."""
    for name, error in found["failed"].items():
        yield f"{name}: {error}; {BRING}/1/wheels."
    if "jax" not in found["failed"] and not debug:
        if found["platform"] != "gpu":
            yield f"a GPU: JAX sees {found['kind']}; --debug rehearses on that."
        elif found["free_bytes"] is not None and found["free_bytes"] < FREE:
            yield (
                f"memory: {found['free_bytes'] / 2**30:.1f} GiB of the GPU's are free, "
                f"and it takes {FREE / 2**30:.0f}: end what else runs there."
            )
        if "torch" in needs and found.get("torch_cuda") is False:
            yield "a GPU for PyTorch: torch.cuda.is_available() is False."
    if "cifar10" in needs:
        paths = sorted(brought.glob("*/cifar10.zip"))
        files = 2
        if paths:
            with zipfile.ZipFile(paths[0]) as file:
                files = json.loads(file.read("head.json"))["files"]
        if len(paths) < files:
            yield (
                f"CIFAR-10: {len(paths)} of its {files} files are in {brought}; "
                f"{BRING}/1 and, in another call, /2."
            )
    if "cora" in needs and not list(brought.glob("1/planetoid/ind.cora.*")):
        yield f"Cora: no ind.cora.* in {brought}/1/planetoid; {BRING}/1."


def look(needs: list[str]) -> dict:
    """What can be imported, and which device there is."""
    failed = {}
    for name in (*LIBRARIES, *(["torch"] if "torch" in needs else [])):
        try:
            importlib.import_module(name)
        except Exception as error:  # a library that was built for another raises any
            failed[name] = f"{type(error).__name__}: {error}"
    found = {"failed": failed, "free_bytes": _free()}
    if "jax" not in failed:
        jax = importlib.import_module("jax")
        device = jax.devices()[0]
        found |= {"platform": device.platform, "kind": device.device_kind}
        found["versions"] = {
            name: getattr(sys.modules[name], "__version__", "")
            for name in ("jax", "flax", "numpy", "torch")
            if name in sys.modules
        }
    if "torch" in needs and "torch" not in failed:
        found["torch_cuda"] = importlib.import_module("torch").cuda.is_available()
    return found


def _free():
    """Bytes of the first GPU's memory that nobody holds; None where nobody tells."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        return int(said.split()[0]) * 2**20
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1:])))
