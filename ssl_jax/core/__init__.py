"""What every algorithm is written against: the contract, and the parts of a train step.

contract    TrainState, what a Metric is, and what an Algorithm promises
steps       initialise, apply, keys for dropout, one optimizer step, averages
devices     the mesh, its rows of each process, and batches joined without moving one
processes   what they tell each other, where several train together
metrics     sums that are added up over steps and images
losses      each says how it reduces
named       modules and classes found by the name that a config gives
ranges      what numbers a field may have, said where it is declared
"""

from ssl_jax.core.contract import (
    Algorithm,
    Batch,
    Metric,
    Metrics,
    PyTree,
    TrainState,
    can,
)
from ssl_jax.core.devices import (
    concat_views,
    fetch,
    gathered,
    make_mesh,
    num_devices,
    on_every_device,
    one_at_a_time,
    own_rows,
    place,
    row_numbers,
    send,
    split_views,
)
from ssl_jax.core.metrics import mean
from ssl_jax.core.steps import (
    ema,
    forward,
    gradient_step,
    init_state,
    is_off,
    model_rngs,
    ramp,
    rising,
)

__all__ = [
    "Algorithm",
    "Batch",
    "Metric",
    "Metrics",
    "PyTree",
    "TrainState",
    "can",
    "concat_views",
    "ema",
    "fetch",
    "forward",
    "gathered",
    "gradient_step",
    "init_state",
    "is_off",
    "make_mesh",
    "mean",
    "model_rngs",
    "num_devices",
    "on_every_device",
    "one_at_a_time",
    "own_rows",
    "place",
    "ramp",
    "rising",
    "row_numbers",
    "send",
    "split_views",
]
