"""What every algorithm is written against: the contract, and the parts of a train step.

contract    TrainState, and what an Algorithm promises
steps       initialise, apply, one optimizer step, averages
devices     the mesh, and batches joined without moving a row
metrics     sums that are added up over steps and images
losses      each says how it reduces
named       a class found by the name that a config gives
"""

from ssl_jax.core.contract import Algorithm, Batch, Metrics, PyTree, TrainState
from ssl_jax.core.devices import (
    concat_views,
    make_mesh,
    num_devices,
    on_every_device,
    split_views,
)
from ssl_jax.core.metrics import mean
from ssl_jax.core.steps import ema, forward, gradient_step, init_state, ramp

__all__ = [
    "Algorithm",
    "Batch",
    "Metrics",
    "PyTree",
    "TrainState",
    "concat_views",
    "ema",
    "forward",
    "gradient_step",
    "init_state",
    "make_mesh",
    "mean",
    "num_devices",
    "on_every_device",
    "ramp",
    "split_views",
]
