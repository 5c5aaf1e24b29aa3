"""What is timed, in a process of its own.

Threads that spin, memory that is kept, settings of a library: whatever one has done in
its process, the next does not meet. A process imports what is sent to it, nothing of
the program that started it, and waits until it is told to go on.
"""

import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from experiments.checkouts import ROOT
from ssl_jax.errors import UserError

# All that there are share a GPU's memory; and keep what they have had of a CPU's, which
# ours would do alone (ssl_jax/cli/cores.py).
_SETTINGS = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
}
_SERVES = "import sys; from experiments.speed import alone; alone.serve(sys.argv[1])"


def once(function: Callable, *args, **kwargs):
    """What a function returns, whose memory goes away with its process.

    Raises:
      UserError: the function's.
      RuntimeError: it raised another error, which is told, or its process has ended.
    """
    with _Process(False, function, args, kwargs) as process:
        return process.answer()


class Alone:
    """An object that has a `device` and `run(steps)`, seconds a step; as a context, in
    which its process lives. What goes wrong there is raised here, as by `once`."""

    def __init__(self, make: Callable, *args, **kwargs):
        """
        Args:
          make: makes the object; like its arguments, found by its module and name.
        """
        self._process = _Process(True, make, args, kwargs)

    def __enter__(self) -> "Alone":
        """When it is made."""
        self._process.__enter__()
        self.device = self._process.answer()
        return self

    def __exit__(self, *error):
        self._process.__exit__(*error)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        self._process.pipe.send(steps)
        return self._process.answer()


class _Process:
    def __init__(self, stays: bool, *call):
        self.stays, self.call = stays, call

    def __enter__(self):
        self.pipe, theirs = multiprocessing.Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVES, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env={**_SETTINGS, **os.environ},
            )
        try:
            self.pipe.send((self.stays, *self.call))
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind=None, *_):
        self.pipe.close()
        if kind is not None:  # it may be far from its next look into the pipe
            self.process.terminate()
        self.process.wait()

    def answer(self):
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            name, status = self.call[0].__qualname__, self.process.wait()
            raise RuntimeError(
                f"the process of {name} ended with status {status}"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def serve(handle: str) -> None:
    """A process' whole life."""
    os.set_inheritable(int(handle), False)
    with Connection(int(handle)) as pipe:
        try:
            for answer in _answers(pipe):
                pipe.send(answer)
        except (EOFError, ConnectionError, KeyboardInterrupt):  # nobody asks any more
            pass
        except UserError as error:
            pipe.send(error)
        except Exception as error:
            said = f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
            pipe.send(RuntimeError(said))


def _answers(pipe):
    stays, make, args, kwargs = pipe.recv()
    made = make(*args, **kwargs)
    if not stays:
        yield made
        return
    yield made.device
    while True:
        yield made.run(pipe.recv())
