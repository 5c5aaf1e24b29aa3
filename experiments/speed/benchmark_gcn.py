"""Seconds of a GCN's 200 epochs on Cora: here, and by PyTorch Geometric.

    pip install -e .[bench]
    python -m experiments.speed.benchmark_gcn --data_dir=DIR [--rounds=5] [--epochs=200]

Both train the same network, 2 layers and 16 hidden, by the same recipe: dropout 0.5,
Adam 0.01, L2 5e-4 on the first layer, and no evaluation between the epochs. They run
in turn, round after round, so that other load meets both alike; compilation is timed
apart. PyTorch Geometric is timed in the three forms that its users write, each with
`cached=True`: dense features, as its own example has them; sparse features; and these
with a sparse adjacency in place of a list of edges. The ratio is to the fastest.
A line of experiments/results/benchmark_gcn.jsonl, named after the device, and a table
of README.
"""

import functools
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch_geometric
from absl import app, flags
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from experiments import jobs
from experiments.speed.tables import FORMS
from ssl_jax import core, models
from ssl_jax.algorithms.gcn import GCN
from ssl_jax.data.sources.planetoid import GraphData, load_planetoid
from ssl_jax.graphs import sparse
from ssl_jax.workdir import results

DATA_DIR = flags.DEFINE_string("data_dir", "", "the folder with Cora's eight files")
ROUNDS = flags.DEFINE_integer("rounds", 5, "measurements; the median counts")
EPOCHS = flags.DEFINE_integer("epochs", 200, "steps of one training")
HIDDEN, DROPOUT, LEARNING_RATE, WEIGHT_DECAY = 16, 0.5, 0.01, 5e-4
PYG = [name for name in FORMS if name != "ssl_jax"]


def main(_):
    data = load_planetoid("cora", DATA_DIR.value)
    results = measure(data, epochs=EPOCHS.value, rounds=ROUNDS.value)
    jobs.keep("benchmark_gcn", jax.devices()[0].platform, results)


def measure(data: GraphData, *, epochs: int, rounds: int) -> dict:
    """Seconds of each, the median of `rounds`; round r trains seed r."""
    load_before = os.getloadavg()[0]
    ours, compile_seconds = compiled(data, epochs)
    runs = {"ssl_jax": ours}
    for form in PYG:
        runs[form] = functools.partial(by_pyg, form, pyg_inputs(data, form), data)
    ours(0)
    for form in PYG:  # its threads and caches
        runs[form](0, epochs=2)
        runs[form] = functools.partial(runs[form], epochs=epochs)

    seconds, accuracy = {n: [] for n in runs}, {n: [] for n in runs}
    for seed in range(rounds):
        for name, run in runs.items():
            taken, logits_NK = run(seed)
            right_M = logits_NK[data.test].argmax(-1) == data.labels_N[data.test]
            seconds[name].append(taken)
            accuracy[name].append(float(right_M.mean()))
    median = {name: statistics.median(each) for name, each in seconds.items()}
    fastest = min(PYG, key=median.get)
    both = zip(seconds["ssl_jax"], seconds[fastest], strict=True)
    return {
        "seconds": {name: round(s, 3) for name, s in median.items()},
        "fastest_pyg": fastest,
        "ratio": round(statistics.median(theirs / own for own, theirs in both), 2),
        "compile_seconds": round(compile_seconds, 2),
        "rounds": {n: [round(t, 3) for t in s] for n, s in seconds.items()},
        "accuracy": accuracy,
        "epochs": epochs,
        "device": results.device(core.make_mesh(jax.devices()[:1])),
        "pyg_device": pyg_device().type,
        "cpus": os.cpu_count(),
        "load_average": {
            "before": round(load_before, 2),
            "after": round(os.getloadavg()[0], 2),
        },
        "versions": {
            **results.versions(),
            "torch": torch.__version__,
            "torch_geometric": torch_geometric.__version__,
        },
    }


def compiled(data: GraphData, epochs: int):
    """(train, seconds of compilation); train(seed) -> (seconds, logits_NK)."""
    label_N = np.full(len(data.labels_N), -1, np.int32)
    label_N[data.train] = data.labels_N[data.train]
    batch = {
        "features": sparse.row_normalized(data.features),
        "adjacency": data.adjacency,
        "label": jnp.asarray(label_N),
    }
    model = models.build(
        "gcn",
        num_classes=len(data.class_names),
        dtype="float32",
        hidden=HIDDEN,
        dropout=DROPOUT,
    )
    tx = optax.adam(LEARNING_RATE)
    algorithm = GCN(model=model, tx=tx, weight_decay=WEIGHT_DECAY)

    @jax.jit
    def train(key, batch):
        key_init, key_steps = jax.random.split(key)

        def step(state, i):
            key = jax.random.fold_in(key_steps, i)
            return algorithm.train_step(state, batch, key)[0], None

        state = algorithm.init(key_init, batch)
        return jax.lax.scan(step, state, jnp.arange(epochs))[0]

    began = time.perf_counter()
    train = train.lower(jax.random.key(0), batch).compile()
    compile_seconds = time.perf_counter() - began

    def timed(seed):
        key = jax.random.key(seed)
        began = time.perf_counter()
        state = jax.block_until_ready(train(key, batch))
        taken = time.perf_counter() - began
        return taken, np.asarray(algorithm.predict(state, batch))

    return timed, compile_seconds


def pyg_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pyg_inputs(data: GraphData, form: str):
    """(features, edges) as `form` has them."""

    def tensor(matrix):
        places_2E = np.stack([matrix.rows_E, matrix.columns_E]).astype(np.int64)
        values_E = torch.tensor(np.asarray(matrix.values_E))
        return torch.sparse_coo_tensor(places_2E, values_E, matrix.shape).coalesce()

    x = tensor(sparse.row_normalized(data.features))
    edges = tensor(data.adjacency)
    if form == "pyg_dense":
        x = x.to_dense()
    edges = edges.to_sparse_csr() if form.endswith("adjacency") else edges.indices()
    return x.to(pyg_device()), edges.to(pyg_device())


def by_pyg(form: str, inputs, data: GraphData, seed: int, *, epochs: int):
    """(seconds, logits_NK)."""
    torch.manual_seed(seed)
    x, edges = inputs
    device = x.device
    train = torch.tensor(data.train, dtype=torch.int64, device=device)
    labels = torch.tensor(data.labels_N[data.train], dtype=torch.int64, device=device)
    given = {"cached": True, "bias": False}
    first = GCNConv(x.shape[1], HIDDEN, **given).to(device)
    second = GCNConv(HIDDEN, len(data.class_names), **given).to(device)

    def forward(training):
        if not training or not x.is_sparse:
            y = F.dropout(x, DROPOUT, training)
        else:
            values = F.dropout(x.values(), DROPOUT)
            y = torch.sparse_coo_tensor(x.indices(), values, x.shape, is_coalesced=True)
        y = F.dropout(first(y, edges).relu(), DROPOUT, training)
        return second(y, edges)

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    wait()
    began = time.perf_counter()
    decayed = {"params": first.parameters(), "weight_decay": WEIGHT_DECAY}
    groups = [decayed, {"params": second.parameters()}]
    optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE)
    for _ in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(forward(True)[train], labels).backward()
        optimizer.step()
    wait()
    taken = time.perf_counter() - began
    with torch.no_grad():
        return taken, forward(False).cpu().numpy()


if __name__ == "__main__":
    app.run(main)
