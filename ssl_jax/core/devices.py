"""One axis of devices, "data": state on all of them, a batch split by rows."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P


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


def make_mesh(devices: list | None = None) -> Mesh:
    """All devices, or those given, on one axis, "data"."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
    )
