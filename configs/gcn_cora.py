"""GCN on Cora (Kipf and Welling, arXiv:1609.02907): 140 labels, Planetoid's split.

--config.num_seeds=100 trains the paper's 100 runs at once. Words: "tutorial", whose
decay is on both layers and who never stops early; or another network in GCN's place,
with the rate and decay of its paper: "gat" (arXiv:1710.10903), "appnp"
(arXiv:1810.05997), "sgc" (arXiv:1902.07153). GAT's and APPNP's authors stop by loss and
accuracy and go back to the best weights; here both train 1,000 steps, `accuracy` is the
last weights', and `accuracy_at_best_val` is the one to hold against theirs.
"""

from configs import base
from ssl_jax.errors import UserError


def get_config(arg: str = ""):
    words = base.words(arg, "tutorial", "gat", "appnp", "sgc")
    if len(words - {"debug"}) > 1:
        raise UserError("tutorial, gat, appnp and sgc exclude each other.")
    config = base.run("gcn_cora", train=base.phase(base.algorithm("gcn.GCN")))
    config.data.update(name="cora", split="planetoid", num_labels=140)
    config.data.num_validation = 500
    config.model = base.model("gcn")
    config.train.optimizer.update(
        name="adam", learning_rate=0.01, schedule="constant", weight_decay=0.0
    )
    config.train.update(
        steps=200, log_every=1, eval_every=1, checkpoint_every=200, loss_window=10
    )
    for word in words - {"debug"}:
        config.name = f"gcn_cora_{word}"
    if "tutorial" in words:
        config.train.algorithm.decay_all = True
        config.train.loss_window = 0
    if "gat" in words:
        config.model = base.model("gat")
        config.train.algorithm.decay_all = True
        config.train.optimizer.learning_rate = 0.005
        config.train.update(steps=1000, loss_window=0)
    if "appnp" in words:
        config.model = base.model("appnp")
        config.train.algorithm.weight_decay = 5e-3
        config.train.update(steps=1000, loss_window=0)
    if "sgc" in words:
        config.model = base.model("sgc")
        # Its authors searched this decay for Cora, and trained 100 epochs.
        config.train.algorithm.weight_decay = 1.3e-5
        config.train.optimizer.learning_rate = 0.2
        config.train.update(steps=100, loss_window=0)
    config.train.checkpoint_every = config.train.steps
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config
