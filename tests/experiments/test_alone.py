"""A process that does what it is told, and ends with who tells it."""

import math
import os
import time
from types import SimpleNamespace

import pytest

from experiments import jobs
from experiments.speed import alone
from experiments.speed.alone import Alone
from ssl_jax.errors import UserError


def test_a_function_is_called_in_a_process_of_its_own_whose_errors_are_told():
    assert alone.once(os.getpid) != os.getpid()
    with pytest.raises(UserError, match="--task=3/2 must be i/n"):
        alone.once(jobs.share, [], "3/2")
    with pytest.raises(RuntimeError, match="ValueError: invalid literal for int"):
        alone.once(int, "x")
    with pytest.raises(RuntimeError, match="process of _exit ended with status 3"):
        alone.once(os._exit, 3)


def test_an_object_waits_for_its_turns_and_ends_as_its_context_does():
    with Alone(SimpleNamespace, device="here", run=math.sqrt) as one:
        assert one.device == "here" and [one.run(4), one.run(9)] == [2.0, 3.0]
        with pytest.raises(RuntimeError, match="ValueError: .*\n"):
            one.run(-1)
    process, began = one._process.process, time.monotonic()
    assert process.poll() == 0
    with pytest.raises(KeyboardInterrupt):
        with Alone(SimpleNamespace, device="here", run=time.sleep) as one:
            one._process.pipe.send(60)
            raise KeyboardInterrupt
    assert one._process.process.poll() is not None
    assert time.monotonic() - began < 30
