"""Compiled programs are kept, whole or not at all, for whoever comes next."""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache

from ssl_jax.workdir import compiled

# Two processes at a time: each reads and writes ten entries again and again, which
# differ by who wrote them, and runs programs that both compile.
MANY = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from ssl_jax.workdir import compiled

me, folder = int(sys.argv[1]), Path(sys.argv[2])
compiled.keep(folder, 0)
entries = compiled.Entries(folder / compiled.machine(), 0)
for round in range(20):
    for i in range(10):
        program = entries.get(f"key{i}")
        assert program is None or program == program[:1] * len(program), i
        entries.put(f"key{i}", bytes([me + i]) * (500_000 + 100_000 * me))
for power in range(3):
    x = jax.jit(lambda x: jnp.sin(x) ** power)(jnp.arange(4.0))
    print([float(value).hex() for value in x])
"""


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder that JAX keeps programs in, for one test."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    of_session = compilation_cache._cache
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    compiled.keep(tmp_path, 0)
    yield tmp_path / compiled.machine()
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    compilation_cache._cache = of_session
    compilation_cache._cache_initialized = of_session is not None


SETTINGS = ("jax_compilation_cache_dir", *compiled._ALL)


def compute():
    """Of a program that no other test has, in as good as a new process."""
    jax.clear_caches()
    return np.asarray(jax.jit(lambda x: jnp.cos(x) * 11 + x[::-1])(jnp.arange(5.0)))


def programs(folder):
    return sorted(folder.glob("jit__lambda*"))


def test_the_next_process_takes_what_one_has_compiled(kept):
    first = compute()
    (program,) = programs(kept)
    os.utime(program, (0, 0))
    np.testing.assert_array_equal(compute(), first)
    (again,) = programs(kept)
    assert again == program
    assert time.time() - program.stat().st_mtime < 60  # used now


@pytest.mark.parametrize("damage", ["half", "flipped", "empty", "grown"])
def test_a_damaged_program_is_told_and_compiled_anew(kept, damage, caplog):
    first = compute()
    (program,) = programs(kept)
    whole = program.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "half": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "empty": b"",
        "grown": whole + b"more",
    }
    program.write_bytes(damaged[damage])
    np.testing.assert_array_equal(compute(), first)
    assert f"{program} is damaged, and is compiled anew" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(compute(), first)
    assert not caplog.text  # another was put in its place


def test_two_processes_at_once_never_see_a_half(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(me), tmp_path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for me in (0, 1)
    ]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    (out, err), other = said
    assert (out, err) == other and out.count("\n") == 3 and not err
    assert not list(tmp_path.glob("*/.writing-*"))


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    hours = {"a": 5, "b": 9, "c": 0.5, "d": 2}

    def folder(name):
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        return path

    for key, ago in hours.items():
        entries = compiled.Entries(folder("other" if key == "b" else "mine"), 0)
        entries.put(key, bytes(1_000))
        path = entries._path / f"{key}-cache"
        os.utime(path, (time.time() - 3_600 * ago,) * 2)
    left, lately = (folder("mine") / f".writing-{name}" for name in ("left", "lately"))
    for path in (left, lately):
        path.write_bytes(b"")
    os.utime(left, (0, 0))
    compiled.Entries(folder("mine"), 3_200).put("e", bytes(1_000))
    assert not left.exists() and lately.exists()
    there = {path.name[0] for path in tmp_path.glob("*/*-cache")}
    assert there == {"c", "d", "e"}
    compiled.Entries(folder("mine"), 10).put("f", bytes(1_000))
    there = {path.name[0] for path in tmp_path.glob("*/*-cache")}
    assert there == {"c", "e", "f"}  # of the last hour


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, kept, caplog):
    file = tmp_path / "file"
    file.write_text("")
    compiled.keep(file / "compiled", 0)
    told = "is kept in {0} (Not a directory): the next start compiles all again"
    assert told.format(file / "compiled" / compiled.machine()) in caplog.text
    caplog.clear()
    gone = compiled.Entries(tmp_path / "gone", 0)
    for key in "ab":
        gone.put(key, b"program")
        assert gone.get(key) is None
    assert caplog.text.count("SSL_JAX_CACHE") == 1


def test_programs_are_for_a_number_of_cores(monkeypatch):
    here = compiled.machine()
    assert compiled.machine() == here
    monkeypatch.setattr(compiled, "_cores", lambda: (None, 1_000))
    assert compiled.machine() != here
