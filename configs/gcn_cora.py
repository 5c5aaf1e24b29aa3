"""GCN on Cora (Kipf and Welling, arXiv:1609.02907): 140 labels, Planetoid's split.

--config.num_seeds=100 trains the paper's 100 runs at once. Words: "citeseer" or
"pubmed", in Cora's place; "tutorial", whose decay is on both layers and who never stops
early; or another network in GCN's place, with the rate and decay of its paper: "gat"
(arXiv:1710.10903), "appnp" (arXiv:1810.05997), "sgc" (arXiv:1902.07153). GAT's and
APPNP's authors stop by loss and accuracy and go back to the best weights; here both
train 1,000 steps, `accuracy` is the last weights', and `accuracy_at_best_val` is the
one to hold against theirs.
"""

from configs import base
from ssl_jax.errors import UserError

NUM_LABELS = {"cora": 140, "citeseer": 120, "pubmed": 60}  # 20 of each class
# Which SGC's authors searched on the validation nodes (SGC-tuning/ in their code).
SGC_DECAY = {"cora": 1.3e-5, "citeseer": 2.35e-5, "pubmed": 7.4e-5}


def get_config(arg: str = ""):
    words = base.words(arg, *NUM_LABELS, "tutorial", "gat", "appnp", "sgc")
    graphs = sorted(words & NUM_LABELS.keys())
    if len(graphs) > 1:
        raise UserError(f"{' and '.join(graphs)} exclude each other: give one.")
    graph = graphs[0] if graphs else "cora"
    variants = sorted(words - {graph, "debug"})
    if len(variants) > 1:
        raise UserError("tutorial, gat, appnp and sgc exclude each other.")
    name = "_".join(["gcn", graph, *variants])
    config = base.run(name, train=base.phase(base.algorithm("gcn.GCN")))
    config.data.update(name=graph, split="planetoid", num_labels=NUM_LABELS[graph])
    config.data.num_validation = 500
    config.model = base.model("gcn")
    config.train.optimizer.update(
        name="adam", learning_rate=0.01, schedule="constant", weight_decay=0.0
    )
    config.train.update(
        steps=200, log_every=1, eval_every=1, checkpoint_every=200, loss_window=10
    )
    if "tutorial" in words:
        config.train.algorithm.decay_all = True
        config.train.loss_window = 0
    if "gat" in words:
        config.model = base.model("gat")
        config.train.algorithm.decay_all = True
        config.train.optimizer.learning_rate = 0.005
        config.train.update(steps=1000, loss_window=0)
        if graph == "pubmed":  # there the paper has 8 heads in its last layer as well
            config.train.algorithm.weight_decay = 1e-3
            config.train.optimizer.learning_rate = 0.01
    if "appnp" in words:
        config.model = base.model("appnp")
        config.train.algorithm.weight_decay = 5e-3
        config.train.update(steps=1000, loss_window=0)
    if "sgc" in words:
        config.model = base.model("sgc")
        config.train.algorithm.weight_decay = SGC_DECAY[graph]
        config.train.optimizer.learning_rate = 0.2
        config.train.update(steps=150 if graph == "citeseer" else 100, loss_window=0)
    config.train.checkpoint_every = config.train.steps
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config
