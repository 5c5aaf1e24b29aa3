"""What of the learning rate each layer has."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from ssl_jax import models
from ssl_jax.errors import UserError
from ssl_jax.train import depth, optimizers


def _encoder(name, side=16, **hparams):
    model = models.build(name, num_classes=3, **(models.hparams(name) | hparams))
    init = partial(model.init, jax.random.key(0), train=False)
    return jax.eval_shape(init, jnp.zeros((1, side, side, 3)))["params"]["encoder"]


def _layers(encoder):
    return {name: depth.layer_of(name, encoder) for name in encoder}


def test_layers_of_networks_with_blocks():
    vit = _layers(_encoder("vit", width=8, depth=2, heads=1, patch=8, registers=1))
    assert vit.pop("norm") == 3 and vit.pop("Block_0") == 1 and vit.pop("Block_1") == 2
    assert set(vit) >= {"class_token", "patches", "position", "registers"}
    assert set(vit.values()) == {0}
    convnext = _layers(_encoder("convnext", size="atto", patch=2))
    blocks = [convnext[f"Block_{i}"] for i in range(12)]
    assert blocks == [*range(1, 13)] and convnext["norm"] == 13
    assert convnext["stem"] == convnext["stem_norm"] == 0
    # Stages of 2, 2, 6 and 2 blocks: what halves the image goes with the first.
    for stage, layer in ((1, 3), (2, 5), (3, 11)):
        assert convnext[f"halved_{stage}"] == convnext[f"halved_norm_{stage}"] == layer
    uneven = dict(depths=(1, 2, 1), widths=(8, 16, 8), patch=2, kernel=3)
    uneven = _layers(_encoder("convnext", **uneven))
    assert [uneven[f"halved_{stage}"] for stage in (1, 2)] == [2, 4]
    wide = _layers(_encoder("wide_resnet", blocks=1, widen=1))
    assert wide["Conv_0"] == 0 and wide["BatchNorm_0"] == len(wide) - 1
    # As models/resnet.py and models/efficientnet.py name theirs.
    stem = {
        "Conv_0": {"kernel": jnp.zeros((3, 3, 3, 8))},
        "BatchNorm_0": {"scale": jnp.zeros(8)},
    }
    resnet = _layers(stem | {f"BasicBlock_{i}": {} for i in range(8)})
    assert [*resnet.values()] == [0, 0, *range(1, 9)]
    blocks = {f"Block_{i}": {} for i in range(16)}
    efficientnet = _layers(stem | blocks | {"Conv_1": {}, "BatchNorm_1": {}})
    assert [*efficientnet.values()] == [0, 0, *range(1, 17), 17, 17]


PARAMS = {
    "encoder": {
        "patches": {"kernel": jnp.full(2, 3.0)},
        "Block_0": {"kernel": jnp.full(2, 5.0)},
        "Block_1": {"kernel": jnp.full(2, 7.0)},
        "norm": {"scale": jnp.full(2, 9.0)},
    },
    "head": {"kernel": jnp.full(2, 1.0)},
}
SHARES = {
    (0.5, "all"): (0.125, 0.25, 0.5, 1, 1),
    (1.0, "1"): (0, 0, 1, 1, 1),
    (0.5, "2"): (0, 0.25, 0.5, 1, 1),
    (1.0, "head"): (0, 0, 0, 0, 1),
}


@pytest.mark.parametrize("how", SHARES)
def test_a_step_of_adamw_is_smaller_the_deeper_a_layer_lies(how):
    """The decay's part of it as well, as by timm's and MAE's groups of parameters."""
    layer_decay, layers = how
    section = optimizers.Optimizer(
        **base.phase(base.algorithm("supervised.Supervised")).optimizer.to_dict()
        | dict(name="adamw", weight_decay=0.1, schedule="constant")
        | dict(learning_rate=0.01, layer_decay=layer_decay, layers=layers)
    )
    _, tx = optimizers.of_phase(section, batch_size=1, total_steps=10)
    params = PARAMS
    gradient = jax.tree.map(lambda w: 0.3 * w, params)
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        names = (("encoder", n) for n in ("patches", "Block_0", "Block_1", "norm"))
        for (part, name), share in zip(
            (*names, ("head", "")), SHARES[how], strict=True
        ):
            leaf = "scale" if name == "norm" else "kernel"
            own = {n: tree[part] for n, tree in (("at", params), ("by", updates))}
            own = {n: (t[name] if name else t)[leaf] for n, t in own.items()}
            # By hand: a constant gradient makes Adam's direction 1.
            before_2 = own["at"] - own["by"]
            decayed = 0.1 if leaf == "kernel" else 0.0
            by_2 = -0.01 * share * (1 + decayed * before_2)
            np.testing.assert_allclose(own["by"], by_2, rtol=1e-4, err_msg=name)
            if not share:
                np.testing.assert_array_equal(own["by"], 0)


def test_what_rests_is_not_moved_by_what_is_not_finite():
    tx = depth.by_layer(optax.sgd(1.0), 1.0, "head")
    bad = jax.tree.map(lambda w: w * np.nan, PARAMS)
    updates, _ = tx.update(bad, tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["encoder"]["norm"]["scale"], 0)


def test_all_alike_is_the_transformation_itself():
    tx = optax.sgd(1.0)
    assert depth.by_layer(tx, 1.0, "all") is tx


def test_what_has_no_layers_is_refused():
    def refused(match, params=PARAMS, layer_decay=1.0, layers="all"):
        with pytest.raises(UserError, match=match):
            tx = depth.by_layer(optax.sgd(1.0), layer_decay, layers)
            jax.eval_shape(tx.init, params)

    refused("optimizer.layers='last' is unknown: use 'all', 'head'", layers="last")
    refused("optimizer.layers='0' is unknown", layers="0")
    refused("layers='head' trains none: use 1.0", layers="head", layer_decay=0.9)
    refused("the encoder has 2 blocks; use at most '2', or 'all'", layers="3")
    flat = {"encoder": {"Dense_0": {"kernel": jnp.ones(2)}}, "head": {}}
    refused("layer_decay=0.9 counts an encoder's blocks, and .* none", flat, 0.9)
    refused("layers='1' counts an encoder's blocks", flat, layers="1")
    alike = _encoder("convnext", depths=(1, 1), widths=(8, 8), patch=2, kernel=3)
    alike = {"encoder": alike}
    refused("one is as wide as the one before it: use other model.widths", alike, 0.9)
