"""Processes that train together: one run, on the devices of many hosts.

All of them do the same in the same order, each with its own devices. What one of them
alone can know, such as what is on disk or that a signal has come, it tells the others
by the key-value store of `jax.distributed`; what is large, by the devices.
"""

import contextlib
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax._src.distributed import global_state  # its client: there is no public way
from jax.experimental import multihost_utils

from ssl_jax.errors import UserError

_LOOK = 0.5  # seconds between two looks for what the others say


def count() -> int:
    """How many there are. Asking starts no device."""
    return global_state.num_processes


def index() -> int:
    """Which of them this is."""
    return global_state.process_id


def is_first() -> bool:
    """Whether this is the one that reads, writes and speaks for all."""
    return index() == 0


def of_first(function: Callable[[], Any]) -> Any:
    """What `function()` is on process 0, the only one that calls it, on all of them.

    All call this, in the same order, and not within `function`. What it returns is
    pickled; its NumPy arrays go by the devices.

    Raises:
      UserError: what `function` raises, on all of them.
    """
    if count() == 1:
        return function()
    client = global_state.client
    calls = client.key_value_increment(f"ssl_jax/calls/{index()}", 1)
    key, value, buffers = f"ssl_jax/said/{calls}", None, []
    if is_first():
        try:
            value = function()
        except UserError as error:
            client.key_value_set_bytes(key, pickle.dumps((b"", [], str(error))))
            raise
        # Protocol 5 leaves the bytes of arrays out.
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        buffers = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        sizes = [len(buffer) for buffer in buffers]
        client.key_value_set_bytes(key, pickle.dumps((body, sizes, "")))
    else:
        body, sizes, refused = pickle.loads(waited_for(key))
        if refused:
            raise UserError(refused)
        buffers = [np.zeros(size, np.uint8) for size in sizes]
    if sum(sizes):
        # As bytes: the sum by which they travel would make 0.0 of -0.0.
        joined = multihost_utils.broadcast_one_to_all(np.concatenate(buffers))
        buffers = np.split(joined, np.cumsum(sizes)[:-1])
    return value if is_first() else pickle.loads(body, buffers=buffers)


@contextlib.contextmanager
def agreed(asked: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether `asked()` was true on any of the processes:
    from the same of its calls on, counted, on all. It costs a step nothing.
    """
    if count() == 1:
        yield asked
        return
    agreement = _Agreement(asked, of_first(lambda: uuid.uuid4().hex))
    try:
        yield agreement
    finally:
        agreement.close()


class _Agreement:
    """Once it is asked anywhere, each process says how many calls it has had, and has
    none until all have said so: the next after the most that any has had is the one.

    No process waits for a step of another meanwhile, but only for its thread.
    """

    def __init__(self, asked, name):
        self._asked, self._name = asked, f"ssl_jax/agreed/{name}"
        self._calls, self._at = 0, None
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __call__(self):
        with self._lock:
            self._calls += 1
            return self._at is not None and self._calls >= self._at

    def close(self):
        self._closed.set()
        self._thread.join()

    def _watch(self):
        while not (self._closed.wait(_LOOK) or found(f"{self._name}/asked")):
            if self._asked():
                put(f"{self._name}/asked", "yes")
        with self._lock:
            # Who has ended says how many it had in all.
            put(f"{self._name}/calls/{index()}", str(self._calls))
            if not self._closed.is_set():
                keys = [f"{self._name}/calls/{i}" for i in range(count())]
                self._at = 1 + max(int(waited_for(key)) for key in keys)


def put(key: str, value: str) -> None:
    """Tells the others; the last word holds."""
    global_state.client.key_value_set(key, value, allow_overwrite=True)


def found(key: str) -> str:
    """What one of them has put, or ""."""
    try:
        return global_state.client.key_value_try_get(key)
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return ""


def waited_for(key: str) -> bytes:
    """What one of them has put, or will."""
    while True:
        try:  # a second at a time, so that a signal is heard
            return global_state.client.blocking_key_value_get_bytes(key, 1000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
