"""Dropout before the head: `model.dropout`, of every network for images."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
from configs import base
from ssl_jax import core, models
from ssl_jax.algorithms.remixmatch import Network
from ssl_jax.models import Classifier

KEY = jax.random.key(0)
RATE, D = 0.25, 64


def _images(B):
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, 8, 8, 1)), jnp.float32)


def test_every_network_for_images_has_it_and_the_same_variables():
    for name in core.named.modules("ssl_jax.models"):
        takes = models.find(name).takes
        if takes == "graph":  # of its own, or none
            assert models.declare(name) == (models.find(name),)
            continue
        assert base.model(name).dropout == 0.0
    both = [
        models.build("mlp", num_classes=3, dtype="float32", dropout=rate)
        for rate in (0.0, 0.5)
    ]
    init = jax.jit(lambda: [m.init(KEY, _images(2), train=False) for m in both])
    jax.tree.map(np.testing.assert_array_equal, *init())


def test_what_a_model_from_outside_calls_dropout_is_its_own(monkeypatch):
    class Own(models.find("mlp")):
        takes = "images"
        dropout: float = 0.1

    monkeypatch.setattr(models, "find", lambda name: Own)
    assert models.hparams("own")["dropout"] == 0.1
    built = models.build("own", num_classes=3, dtype="float32", dropout=0.3)
    assert (built.encoder.dropout, built.dropout) == (0.3, 0.0)


@pytest.mark.parametrize("network", [Classifier, Network])
def test_the_head_sees_what_is_kept_in_training_alone(network):
    """Both of ReMixMatch's heads the same."""
    model, images = network(toy.Pixels(), 5, RATE), _images(200)
    features_BD = np.asarray(images).reshape(200, D)
    variables = model.init(KEY, images, train=False)
    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}

    def heads(x_BD):
        there = [params[name] for name in ("head", "rotation_head") if name in params]
        return [x_BD @ head["kernel"] + head["bias"][None] for head in there]

    @jax.jit
    def outputs(key):
        trained, _ = core.forward(
            model, params, state, images, train=True, rngs=core.model_rngs(key)
        )
        judged, _ = core.forward(model, params, state, images, train=False)
        rngs = core.model_rngs(key)
        kept = model.apply(variables, features_BD, rngs=rngs, method="dropped")
        return jax.tree.leaves(trained), jax.tree.leaves(judged), kept

    trained, judged, kept_BD = outputs(KEY)
    for ours, theirs in zip(judged, heads(features_BD), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for ours, theirs in zip(trained, heads(kept_BD), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    kept = np.asarray(kept_BD) != 0
    np.testing.assert_allclose(
        np.asarray(kept_BD)[kept], features_BD[kept] / (1 - RATE), rtol=1e-6
    )
    assert abs(kept.mean() - (1 - RATE)) < 5 * np.sqrt(RATE * (1 - RATE) / kept.size)
    assert len(np.unique(kept, axis=0)) == 200  # each row drops others
    assert not np.array_equal(outputs(jax.random.key(1))[-1], kept_BD)


def test_without_it_nothing_is_drawn():
    model, images = Classifier(toy.Pixels(), 5), _images(2)
    variables = model.init(KEY, images, train=False)
    state = {"batch_stats": variables["batch_stats"]}
    given = (model, variables["params"], state, images)
    trained, _ = core.forward(*given, train=True)  # and asks for no key
    np.testing.assert_array_equal(trained, core.forward(*given, train=False)[0])


def test_a_row_of_joined_views_drops_the_same_on_any_number_of_devices():
    """Where views lie in another order; and the devices exchange nothing."""
    sizes = (4, 8, 12)
    model, views = Classifier(toy.Pixels(), 5, 0.5), [_images(n) for n in sizes]
    variables = model.init(KEY, views[0], train=False)
    state = {"batch_stats": variables["batch_stats"]}

    def logits(*views):
        joined, _ = core.forward(
            model,
            variables["params"],
            state,
            core.concat_views(*views),
            train=True,
            rngs=core.model_rngs(KEY),
            sizes=sizes,
        )
        return core.split_views(joined, *sizes)

    expected = jax.jit(lambda *views: logits(*views))(*views)
    assert not np.array_equal(expected[0], expected[1][:4])  # of the same images
    mesh = core.make_mesh()
    rows = jax.NamedSharding(mesh, jax.P("data"))
    with jax.set_mesh(mesh):
        args = dict(in_shardings=rows, out_shardings=rows)
        compiled = jax.jit(logits, **args).lower(*views).compile()
        ours = compiled(*jax.device_put(views, rows))
    for one, four in zip(expected, ours, strict=True):
        np.testing.assert_allclose(one, four, atol=1e-5)
    exchanges = r" (?:all|collective|reduce-scatter)[\w-]*\("
    assert not re.findall(exchanges, compiled.as_text())
