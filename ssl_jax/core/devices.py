"""One axis of devices, "data": state on all of them, a batch split by rows.

The devices may be those of several processes, on one host or many. Each process knows
which rows a batch has, and makes and sends those of its own devices alone.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core.contract import PyTree


def num_devices() -> int:
    """Devices of the ambient mesh (`jax.set_mesh`); 1 outside of any."""
    return jax.sharding.get_abstract_mesh().shape.get("data", 1)


def concat_views(*views: jax.Array) -> jax.Array:
    """Joins batches into one, so that BatchNorm sees them together.

    Each view is split by rows over the mesh's devices. A plain concatenate moves rows
    between devices (compiled for 4 devices: 4 all-to-all, 9 permutes). Rows are
    therefore interleaved, [devices, rows per device, ...] joined on axis 1, and every
    row stays where it is. `split_views` is the inverse.
    """
    devices = num_devices()
    views = [v.reshape(devices, -1, *v.shape[1:]) for v in views]
    joined = jnp.concatenate(views, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def split_views(joined: jax.Array, *sizes: int) -> list[jax.Array]:
    """Takes apart what `concat_views` joined; `sizes` are the views' row counts."""
    devices = num_devices()
    rows = joined.reshape(devices, -1, *joined.shape[1:])
    ends = [sum(sizes[: i + 1]) // devices for i in range(len(sizes) - 1)]
    views = jnp.split(rows, ends, axis=1)
    return [v.reshape(-1, *v.shape[2:]) for v in views]


def row_numbers(*sizes: int) -> np.ndarray:
    """Where each row that `concat_views` joins would be on one device, of views of
    these row counts: what is drawn by number is the same on any number of devices."""
    ends, devices = np.cumsum(sizes), num_devices()
    views = [
        np.arange(e - n, e).reshape(devices, -1)
        for e, n in zip(ends, sizes, strict=True)
    ]
    return np.concatenate(views, axis=1).reshape(-1)


def on_every_device(rows: jax.Array) -> jax.Array:
    """All rows of a small array that is split by rows, on every device.

    Each device adds its rows to zeros elsewhere, so that the only exchange is the
    all-reduce that gradients need, too. Where nothing is split, the array as it is.
    """
    devices = num_devices()
    if devices == 1:
        return rows

    def own(part):
        place = jax.lax.axis_index("data")
        whole = jnp.zeros((devices, *part.shape), part.dtype).at[place].set(part)
        # A sum of booleans is of integers.
        return jax.lax.psum(whole, "data").reshape(rows.shape).astype(rows.dtype)

    return jax.shard_map(own, in_specs=P("data"), out_specs=P())(rows)


def gathered(rows: jax.Array) -> jax.Array:
    """All rows of an array that is split by rows, on every device, for each to compare
    its own with. The gradient comes back as one all-reduce.

    Each row travels once, where `on_every_device` sends zeros along. Where nothing is
    split, the array as it is.
    """
    return rows if num_devices() == 1 else jax.lax.with_sharding_constraint(rows, P())


def make_mesh(devices: list | None = None) -> Mesh:
    """All devices, or those given, on one axis, "data", process after process."""
    devices = jax.devices() if devices is None else devices
    # Not jax.make_mesh: it may order them by how they are wired.
    by_process = sorted(devices, key=lambda device: device.process_index)
    return Mesh(np.array(by_process), ("data",), axis_types=(AxisType.Auto,))


def own_rows(mesh: Mesh, rows: int) -> slice:
    """Which of `rows` that are split over the mesh lie on this process's devices."""
    owner_D = np.array([device.process_index for device in mesh.devices.flat])
    own = np.flatnonzero(owner_D == jax.process_index())
    each = rows // len(owner_D)
    return slice(int(own[0]) * each, (int(own[-1]) + 1) * each)


def one_at_a_time(call: Callable) -> Callable:
    """A compiled function that, on several CPU devices, returns when its results are
    there; elsewhere the function itself.

    XLA:CPU (jaxlib 0.10.2) begins and runs each device's part of a call in as many
    threads as there are devices or cores. From 32 calls on that are begun and not done,
    the next waits in such a thread for room, and the device that the others wait for
    has none: after 40 seconds the process is ended.
    """
    if jax.default_backend() != "cpu" or jax.local_device_count() == 1:
        return call

    @functools.wraps(call)
    def waiting(*args):
        return jax.block_until_ready(call(*args))

    return waiting


def send(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Arrays of which each process has its `own_rows`, as global ones on the devices;
    of one process that is all."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda own: jax.make_array_from_process_local_data(sharding, own), tree
    )


def place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Arrays of which every process has all, on the devices, split or on each. What
    lies there already stays."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def placed(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        # jax.device_put would send all of it to all hosts, to compare.
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    return jax.tree.map(placed, tree)


def fetch(tree: PyTree) -> PyTree:
    """Arrays on the host, whole, wherever their rows lie: called by all processes."""

    def fetched(leaf):
        there = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if there and not leaf.is_fully_replicated:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(fetched, tree)
