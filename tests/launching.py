"""launch.py in processes, for the tests: quick ones forked, and fresh ones."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quick import QUICK_COMPILATION

ROOT = Path(__file__).parents[1]

FORKS = """
import json, os, runpy, sys
import ssl_jax.cli.command_line, ssl_jax.cli.modes
import configs.methods
configs.methods.names()  # imports every algorithm
import matplotlib.backends.backend_agg, ssl_jax.report.figures
ssl_jax.report.figures.images, ssl_jax.report.figures.curves  # imports these

def start(flags, cwd, out, err):
    pid = os.fork()
    if not pid:
        for number, file in ((1, out), (2, err)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.chdir(cwd)
        sys.argv = ["launch.py", *flags]
        runpy.run_path(LAUNCH, run_name="__main__")
    return pid

def status(pid, options):
    pid, raw = os.waitpid(pid, options)
    return os.waitstatus_to_exitcode(raw) if pid else None

for line in sys.stdin:
    asked, *args = json.loads(line)
    print(json.dumps({"start": start, "status": status}[asked](*args)), flush=True)
"""


class Started:
    """A launch under way, with what tests use of subprocess.Popen."""

    def __init__(self, ask: Callable, flags, cwd, out, err):
        self._ask, self._status = ask, None
        self._pid = ask("start", list(map(str, flags)), str(cwd), str(out), str(err))

    def poll(self):
        if self._status is None:
            self._status = self._ask("status", self._pid, os.WNOHANG)
        return self._status

    def wait(self):
        if self._status is None:
            self._status = self._ask("status", self._pid, 0)
        return self._status

    def send_signal(self, sign):
        if self.poll() is None:
            os.kill(self._pid, sign)


class Launcher:
    """launch.py in processes that are forked from one which has imported it all, and
    has not begun to compute: they are as fresh ones, two seconds later."""

    def __init__(self, ask: Callable):
        self._ask = ask

    def __call__(self, *flags, cwd=ROOT):
        """(status, stdout, stderr) of a launch."""
        with tempfile.TemporaryDirectory() as folder:
            said = [Path(folder) / name for name in ("out", "err")]
            status = Started(self._ask, flags, cwd, *said).wait()
            return status, *(file.read_text() for file in said)

    def start(self, *flags, log: Path, cwd=ROOT) -> Started:
        """A launch that goes on by itself; what it says is added to `log`."""
        return Started(self._ask, flags, cwd, log, log)


def environment():
    """As in a user's shell: conftest's four devices are for tests in this process.
    Only what makes XLA compile quickly is as there."""
    drop = ("JAX_NUMPY_RANK_PROMOTION", "TFDS_DATA_DIR")
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    return {**kept, "PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK_COMPILATION}


@contextmanager
def forked(**variables: str) -> Iterator[Launcher]:
    """Args: more variables of the environment."""
    program = FORKS.replace("LAUNCH", repr(str(ROOT / "launch.py")))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment() | variables,
    ) as process:

        def ask(*question):
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield Launcher(ask)
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
