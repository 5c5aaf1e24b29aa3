"""What JAX is told of the process before its devices start."""

import os

import jax
import pytest

from configs import digits
from ssl_jax.cli import cores, process
from ssl_jax.train import sections
from ssl_jax.workdir import compiled


def test_deterministic_adds_to_what_the_user_tells_xla(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    monkeypatch.setattr(cores, "spread", lambda *_: None)  # devices are there
    config = digits.get_config("debug")
    process.set_up(config)
    assert os.environ["XLA_FLAGS"] == "--xla_a=1"
    config.deterministic = True
    process.set_up(config)
    assert os.environ["XLA_FLAGS"] == f"--xla_a=1 {sections.DETERMINISTIC}"


@pytest.mark.parametrize(
    "told, keeps",
    [
        ({"jax_compilation_cache_dir": None}, True),
        ({"jax_compilation_cache_dir": "/somewhere"}, False),
        (
            {
                "jax_compilation_cache_dir": None,
                "jax_enable_compilation_cache": False,
            },
            False,
        ),
    ],
)
def test_compiled_programs_are_kept_unless_jax_is_told_otherwise(
    told, keeps, monkeypatch, tmp_path
):
    kept = []
    monkeypatch.setattr(cores, "spread", lambda *_: None)  # devices are there
    monkeypatch.setattr(compiled, "keep", lambda *args: kept.append(args))
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path))
    before = {name: getattr(jax.config, name) for name in told}
    try:
        for name, value in told.items():
            jax.config.update(name, value)
        process.set_up(digits.get_config("debug"))
        process.set_up(digits.get_config("debug"), processes=2)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert kept == ([(tmp_path / "compiled", 2e9)] if keeps else [])
