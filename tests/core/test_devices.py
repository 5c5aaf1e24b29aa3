"""Batches joined on several devices: no row moves."""

import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax import core


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_split_views_inverts_concat_views(num_devices):
    views = [jnp.arange(4), 10 + jnp.arange(8), 100 + jnp.arange(12)]
    with jax.set_mesh(core.make_mesh(jax.devices()[:num_devices])):
        joined = jax.jit(core.concat_views)(*views)
        apart = jax.jit(core.split_views, static_argnums=(1, 2, 3))(joined, 4, 8, 12)
    assert sorted(joined.tolist()) == sorted(sum((v.tolist() for v in views), []))
    for view, same in zip(views, apart, strict=True):
        np.testing.assert_array_equal(view, same)


def test_every_row_stays_on_its_device():
    """Of 4 devices each holds its own quarter of every view."""
    with jax.set_mesh(core.make_mesh()):
        joined = jax.jit(core.concat_views)(jnp.arange(4), 10 + jnp.arange(8))
    np.testing.assert_array_equal(
        joined.reshape(4, 3), [[0, 10, 11], [1, 12, 13], [2, 14, 15], [3, 16, 17]]
    )


def test_a_process_owns_the_rows_of_its_devices(monkeypatch):
    """tests/whole/test_two_processes.py has what becomes of them."""
    devices = [SimpleNamespace(process_index=p) for p in (0, 0, 1, 1)]
    mesh = SimpleNamespace(devices=np.array(devices))
    batch = np.arange(12)
    assert batch[core.own_rows(mesh, 12)].tolist() == [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert batch[core.own_rows(mesh, 12)].tolist() == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("put", [core.send, core.place])
def test_what_is_sent_lies_as_the_sharding_says(put):
    mesh = core.make_mesh()
    sharding = NamedSharding(mesh, P(None, "data"))
    rows = {"index": np.arange(16).reshape(2, 8)}
    sent = put(rows, sharding)
    np.testing.assert_array_equal(sent["index"], rows["index"])
    assert sent["index"].sharding == sharding
    quarters = [shard.data.tolist() for shard in sent["index"].addressable_shards]
    assert quarters[1] == [[2, 3], [10, 11]]


def test_on_several_cpu_devices_a_call_has_ended_when_it_returns(monkeypatch):
    """Or many of them would wait for each other (`core.one_at_a_time`)."""
    mesh = core.make_mesh()
    rows_BD = jax.device_put(np.ones((8, 512)), NamedSharding(mesh, P("data")))

    def slow(rows_BD):  # its devices exchange, and take a tenth of a second
        def body(_, x_BD):
            return x_BD @ (rows_BD.T @ x_BD) / 4096

        return jax.lax.fori_loop(0, 200, body, rows_BD)

    compiled = jax.jit(slow).lower(rows_BD).compile()
    call = core.one_at_a_time(compiled)
    assert call(rows_BD).is_ready()
    assert inspect.unwrap(call) is compiled
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    assert core.one_at_a_time(compiled) is compiled
