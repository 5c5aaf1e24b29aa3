"""launch.py as one of several processes: how it joins the others, and what becomes of
it when one of them ends before its time."""

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

import jax
from absl import logging

from ssl_jax.cli.cluster import Place
from ssl_jax.core import processes
from ssl_jax.errors import UserError

_ENDED, _HEARD = "ssl_jax/ended", "ssl_jax/heard"
_GOES_ON = "the same command on all goes on from the last checkpoint, if any."
_LOOK = 1.0  # seconds between two looks whether another has ended
_LINGER = 5.0  # seconds that process 0 stays for the others to hear why


def join(place: Place, *, seconds: int = 300) -> None:
    """Joins the other processes; before a device is used.

    Args:
      seconds: how long to wait for them.

    Raises:
      UserError: process 0 does not answer.
    """
    if place.index:
        _wait_for(place.coordinator, seconds)
    else:
        waits = f"waits for {place.count - 1} more at {place.coordinator}"
        print(f"process 0 {waits}", file=sys.stderr, flush=True)
    # It would take SIGTERM, on which core.processes agrees.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            local_device_ids=place.gpus,
            cluster_detection_method="deactivate",
            initialization_timeout=seconds,
            # Where no exchange of data fails before, jaxlib ends those that are left.
            heartbeat_timeout_seconds=30,
        )
    except RuntimeError as error:
        raise UserError(
            f"process {place.index} cannot join the others at {place.coordinator} "
            f"({error}): give the host of process 0 and a port that is free there."
        ) from error
    if place.index:  # process 0 speaks for all
        logging.set_verbosity(logging.ERROR)
        sys.stdout = open(os.devnull, "w")


def _wait_for(coordinator, seconds):
    """Until process 0 listens: jaxlib would wait as well, but ends by an abort."""
    host, port = coordinator.rsplit(":", 1)
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(
                    f"process 0 does not answer at {coordinator} within {seconds} s "
                    f"({error}): start it, or mend --coordinator."
                ) from error
            time.sleep(0.2)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Around all that processes do together: where the block ends by an exception on
    one of them, all end, with its message and the status that it has. Nothing where
    there is one.

    Raises:
      UserError: another has ended so, or is lost.
    """
    if processes.count() == 1:
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(over,), daemon=True)
    watch.start()
    try:
        yield
    except BaseException as error:
        over.set()
        watch.join()
        status, text = _meant(error)
        text = f"process {processes.index()} of {processes.count()} {text}"
        # Not by the interpreter's end, at which JAX waits for the others.
        atexit.register(_leave, status)
        if _lost(error):
            raise UserError(_last_words() or text) from None
        _tell(status, text)
        raise
    over.set()
    watch.join()


def _meant(error):
    """(status, what to say of it)."""
    if isinstance(error, UserError):
        return 2, f"says: {error}"
    if isinstance(error, KeyboardInterrupt):
        return 0, f"was stopped by a signal; {_GOES_ON}"
    if _lost(error):
        return 1, (
            f"has lost another ({str(error).splitlines()[0]}): see what that one said; "
            f"{_GOES_ON}"
        )
    return 1, f"ended by {type(error).__name__}: {error}"


def _lost(error):
    """Whether an exchange failed because another process is gone."""
    exchange = ("Gloo", "NCCL", "oordination")
    kinds = (ValueError, RuntimeError)  # JAX has raised either
    return isinstance(error, kinds) and any(word in str(error) for word in exchange)


def _tell(status, text):
    """Those that still train why this one does not."""
    with contextlib.suppress(RuntimeError):  # process 0 may be gone
        if not processes.found(_ENDED):
            processes.put(_ENDED, json.dumps([status, text]))
        processes.put(f"{_HEARD}/{processes.index()}", "yes")
        _linger()


def _linger():
    """Process 0 ends last: with it end what the others hear by, and they."""
    others = [f"{_HEARD}/{i}" for i in range(1, processes.count())]
    until = time.monotonic() + _LINGER
    while processes.is_first() and time.monotonic() < until:
        if all(processes.found(key) for key in others):
            return
        time.sleep(0.1)


def _watch(over):
    with contextlib.suppress(RuntimeError):  # process 0 is gone, as jaxlib will tell
        while not over.wait(_LOOK):
            if said := processes.found(_ENDED):
                status, text = json.loads(said)
                print(f"launch.py: {text}", file=sys.stderr)
                processes.put(f"{_HEARD}/{processes.index()}", "yes")
                _linger()
                _leave(status)


def _last_words():
    with contextlib.suppress(RuntimeError):
        if said := processes.found(_ENDED):
            return json.loads(said)[1]
    return ""


def _leave(status):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
