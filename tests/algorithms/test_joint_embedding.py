"""What methods of several views share: held-out images beside padding, and keys."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
import two_halves
from ssl_jax import algorithms
from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import Outputs
from ssl_jax.augment.multi_crop import MultiCrop

B, IMAGES = 8, 5
CROPS = MultiCrop(*two_halves.GIVEN, small=lambda key, images: images[..., 2:6])


def _flat(view):
    return jnp.asarray(view).reshape(len(view), -1)


def _embedded(network, params, model_state, views, key):
    """By each image's own numbers alone: what batch statistics make of padding is
    another matter."""
    outputs = [Outputs(_flat(view), -(_flat(view) ** 2), None) for view in views]
    return outputs, model_state


def _embedded_crops(network, params, model_state, crops, key):
    outputs, _ = _embedded(network, params, model_state, crops, key)
    return outputs[:2], outputs[2:], model_state


def _targets(network, target, model_state, views, key, *, after):
    return [jnp.flip(_flat(view), -1) for view in views]


METHODS = {
    "barlow_twins": {},
    "byol": dict(total_steps=9),
    "dino": dict(total_steps=9, out=16, small_crops=2),
    "moco": dict(total_steps=9),
    "simclr": {},
    "simsiam": {},
    "supcon": {},
    "swav": dict(prototypes=16, small_crops=2),
    "vicreg": {},
}


@pytest.mark.parametrize("name", METHODS)
def test_held_out_images_are_measured_without_padding(name, monkeypatch):
    """As a batch of the images alone, whatever is in the rows after them."""
    monkeypatch.setattr(joint_embedding, "outputs_of", _embedded)
    monkeypatch.setattr(joint_embedding, "outputs_of_crops", _embedded_crops)
    monkeypatch.setattr(joint_embedding, "targets_of", _targets)
    cls = algorithms.find(algorithms.method(name))
    monkeypatch.setattr(
        cls, "features", lambda self, state, batch: _flat(batch["image"])
    )
    views = CROPS if cls.views_kind == "multi_crop" else two_halves.GIVEN
    algorithm = two_halves.build(cls, views, **METHODS[name])
    extra = {"target": None, "center_K": jnp.zeros(16)}
    state = SimpleNamespace(params=None, model_state=None, extra=extra, step=0)
    padded = two_halves.batch(B) | {"mask": np.arange(B) < IMAGES}
    padded["label"] = np.arange(B, dtype=np.int32) % 2
    alone = {of: rows[:IMAGES] for of, rows in padded.items()}
    padded["image"][IMAGES:] *= 3
    key = jax.random.key(0)
    measured, expected = (
        jax.jit(lambda batch: algorithm.eval_step(state, batch, key))(batch)
        for batch in (padded, alone)
    )
    assert measured.keys() == expected.keys() == {"objective", "effective_rank"}
    for of in measured:
        assert measured[of].count == expected[of].count == IMAGES
        value = expected[of].compute()
        assert measured[of].compute() == pytest.approx(float(value), rel=1e-5)
    assert abs(expected["objective"].compute()) > 1e-3


def test_each_view_has_a_key_of_its_own():
    def drawn(key, images):
        return jax.random.uniform(key, images.shape[:1])

    views = MultiCrop(None, drawn, drawn, drawn)
    batch = {"image": np.zeros((3, 1, 1, 1))}

    @jax.jit
    def both(key):
        crops = joint_embedding.crops_of(views, batch, key, 2)
        return joint_embedding.two_views(views, batch, key), crops

    for of in both(jax.random.key(0)):
        assert len(np.unique(np.stack(of))) == 3 * len(of)


def test_each_views_pass_moves_the_moments_from_where_the_one_before_left_them():
    """`seen` has a digit pair for each pass: of 3, 5, and of two small crops of 2."""
    network = joint_embedding.Network(toy.Pixels(), toy.Pixels(), num_classes=0)
    crops = [jnp.ones((n, 1, 1, 4)) for n in (3, 5, 2, 2)]
    variables = network.init(jax.random.key(0), crops[0], train=False)
    given = variables["params"], {"batch_stats": variables["batch_stats"]}
    key = jax.random.key(1)
    *_, two = joint_embedding.outputs_of(network, *given, crops[:2], key)
    *_, four = joint_embedding.outputs_of_crops(network, *given, crops, key)
    for moved, passes in ((two, 3_05), (four, 3_05_04)):
        assert set(map(int, jax.tree.leaves(moved))) == {passes}
