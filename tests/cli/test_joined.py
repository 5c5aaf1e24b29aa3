"""Joining other processes; tests/whole/test_two_processes.py has the rest."""

import socket
import time

import pytest

from ssl_jax.cli import joined
from ssl_jax.cli.cluster import Place
from ssl_jax.errors import UserError


def test_a_coordinator_that_does_not_answer_is_told_of():
    with socket.socket() as taken:  # but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UserError, match="does not answer at 127.0.0.1:.* within 1"):
            joined.join(Place(address, 2, 1), seconds=1)
    assert time.monotonic() - began < 10


def test_a_process_alone_raises_as_ever():
    with pytest.raises(ValueError, match="^as it is$"), joined.together():
        raise ValueError("as it is")
