"""What JAX is told of the process before its devices start."""

import os

from configs import digits
from ssl_jax.cli import process
from ssl_jax.train import sections


def test_deterministic_adds_to_what_the_user_tells_xla(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    config = digits.get_config("debug")
    process.set_up(config)
    assert os.environ["XLA_FLAGS"] == "--xla_a=1"
    config.deterministic = True
    process.set_up(config)
    assert os.environ["XLA_FLAGS"] == f"--xla_a=1 {sections.DETERMINISTIC}"
