"""launch.py in processes, for the tests: quick ones forked, and fresh ones."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import QUICK_COMPILATION

ROOT = Path(__file__).parents[1]

FORKS = """
import json, os, runpy, sys, tempfile
import ssl_jax.cli.command_line, ssl_jax.cli.modes
import configs.methods
configs.methods.names()  # imports every algorithm
for line in sys.stdin:
    flags = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["launch.py", *flags]
            runpy.run_path("launch.py", run_name="__main__")
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for file in (out, err):
            file.seek(0)
        said = [file.read().decode() for file in (out, err)]
        print(json.dumps([status, *said]), flush=True)
"""


def environment():
    """As in a user's shell: conftest's four devices are for tests in this process.
    Only what makes XLA compile quickly is as there."""
    drop = ("JAX_NUMPY_RANK_PROMOTION", "TFDS_DATA_DIR")
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    return {**kept, "PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK_COMPILATION}


@contextmanager
def forked() -> Iterator[Callable]:
    """Yields launch(*flags) -> (status, stdout, stderr)."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as process:

        def run(*flags):
            process.stdin.write(json.dumps(flags) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def real(*flags, cwd=ROOT, python=()):
    """launch.py in a process of its own."""
    return subprocess.run(
        [sys.executable, *python, ROOT / "launch.py", *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
    )


def assert_one_message(status, err, *said):
    assert status == 2, err
    assert "Traceback" not in err
    assert err.startswith("launch.py: "), err
    for words in said:
        assert words in err
