"""A CPU's cores as devices."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from configs import digits, gcn_cora
from launching import ROOT
from ssl_jax.cli import cores
from ssl_jax.errors import UserError


@pytest.mark.parametrize(
    "batch, asked, parts, processes, count",
    [
        (64, 0, 1, 1, 8),  # 8 images each
        (32, 0, 1, 1, 4),
        (60, 0, 1, 1, 4),  # 8 would leave 7.5
        (65, 0, 1, 1, 1),
        (64, 0, 4, 1, 8),
        (24, 0, 6, 1, 2),  # 4 would leave 6 images in 6 parts
        (64, 0, 1, 4, 2),  # 8 devices on 4 processes
        (64, 3, 1, 1, 3),  # as asked; sections.parse refuses it
        (0, 0, 1, 1, 1),
    ],
)
def test_as_many_devices_as_divide_the_batch(batch, asked, parts, processes, count):
    config = digits.get_config()
    config.train.batch_size = batch
    config.update(cpu_devices=asked, accumulate=parts)
    assert cores.devices(config, 16, processes) == count


def test_one_device_where_a_step_sees_the_whole_or_seeds_are_one_program():
    config = digits.get_config()
    assert cores.devices(config, 2) == 2
    config.num_seeds = 2
    assert cores.devices(config, 2) == 1
    assert cores.devices(gcn_cora.get_config(), 2) == 1


def test_every_phase_has_to_fit():
    config = digits.get_config("noisy_student")
    assert cores.devices(config, 4) == 4
    config[config.phases[-1]].batch_size = 18
    assert cores.devices(config, 4) == 2


def test_a_negative_number_is_refused():
    config = digits.get_config()
    config.cpu_devices = -1
    with pytest.raises(UserError, match="cpu_devices=-1 must be at least 0"):
        cores.devices(config, 2)


@pytest.mark.parametrize("by_user, accelerator", [(True, False), (False, True)])
def test_who_chose_devices_or_has_others_is_left_alone(
    by_user, accelerator, monkeypatch
):
    told = "--xla_force_host_platform_device_count=3" if by_user else ""
    monkeypatch.setenv("XLA_FLAGS", told)
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(cores, "cores", lambda: 4)
    monkeypatch.setattr(cores, "accelerated", lambda: accelerator)
    touched = []
    monkeypatch.setattr(cores, "_keep_memory", lambda: touched.append("memory"))
    monkeypatch.setattr(
        cores.jax.config, "update", lambda *given: touched.append(given)
    )
    cores.spread([digits.get_config()])
    assert touched == (["memory"] if by_user else [])
    assert os.environ["XLA_FLAGS"] == told and "NPROC" not in os.environ


@pytest.mark.parametrize("module", ["jax_plugins", "libtpu", None])
def test_an_accelerator_is_what_jax_may_find(module, monkeypatch):
    config = SimpleNamespace(jax_platforms=None)
    monkeypatch.setattr(cores, "jax", SimpleNamespace(config=config))
    monkeypatch.setattr(cores.importlib.metadata, "entry_points", lambda **_: ())
    monkeypatch.setattr(
        cores.importlib.util, "find_spec", lambda name: name == module or None
    )
    assert cores.accelerated() == (module is not None)


def test_a_process_has_them():
    code = """if 1:
    import json, os
    from configs import digits
    from ssl_jax.cli import cores
    cores.cores = lambda: 4
    keep, kept = cores._keep_memory, []
    cores._keep_memory = lambda: kept.append(keep())
    cores.spread([digits.get_config()])
    import jax
    told = [os.environ[name] for name in ("XLA_FLAGS", "NPROC")]
    print(json.dumps([jax.device_count(), len(kept), *told]))
    """
    env = {"PATH": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    devices, kept, flags, threads = json.loads(out.stdout)
    assert devices == 4 and "multi_thread_eigen=false" in flags
    assert kept == 1 and threads == "1"
