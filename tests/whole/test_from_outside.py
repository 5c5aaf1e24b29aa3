"""A kind of views, a model, an algorithm: each is one file, and nothing else changes.

Their files lie in a folder that no package knows of, added to `__path__`.
"""

import dataclasses
import importlib
import inspect
import sys

import jax
import numpy as np
import pytest

import readme_example
import tiny
from configs import base
from ssl_jax import algorithms, augment, models
from ssl_jax.errors import UserError
from ssl_jax.train.run import run

VIEWS = '''
"""Images with noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from ssl_jax.augment import basic


class Grainy(NamedTuple):
    plain: Callable
    grainy: Callable  # (key, images)


def build(*, amount=0.1, mean=(127.5,), std=(127.5,)) -> Grainy:
    def plain(images):
        return basic.plain(images, side=0, resize=0, mean=mean, std=std)

    def grainy(key, images):
        x = plain(images)
        return x + amount * jax.random.normal(key, x.shape)

    return Grainy(plain, grainy)
'''

MODEL = '''
"""Half of its units are dropped; it says by which key, where somebody listens."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

heard = []


class Wide(nn.Module):  # a helper
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(self.width)(x))


class Dropping(nn.Module):
    takes: ClassVar[str] = "images"
    width: int = 12
    rate: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train):
        if train:
            key = jax.random.key_data(self.make_rng("dropout"))
            jax.debug.callback(lambda key: heard.append(key.tolist()), key)
        y = Wide(self.width)(x.reshape(len(x), -1).astype(self.dtype))
        return nn.Dropout(self.rate, deterministic=not train)(y)
'''

ALGORITHM = '''
"""Supervised, on grainy images."""

from dataclasses import dataclass
from typing import ClassVar

from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.algorithms.supervised import Supervised
from ssl_jax.core import gradient_step


@dataclass(frozen=True, kw_only=True)
class Grainily(Supervised):
    views_kind: ClassVar[str] = "grainy"
    small: ClassVar[dict] = {"rounds": 2}
    rounds: int = 1000

    def train_step(self, state, batch, key):
        x, labels = self.views.grainy(key, batch["image"]), batch["label"]
        state, metrics = gradient_step(
            lambda params: self.loss(params, state.model_state, x, labels, key),
            self.tx,
            state,
        )
        return ema_teacher.update(self, state), metrics
'''


@pytest.fixture(scope="module", autouse=True)
def _outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    files = ((augment, "grainy", VIEWS), (models, "dropping", MODEL))
    files += ((algorithms, "grainily", ALGORITHM),)
    for package, name, text in files:
        own = folder / package.__name__
        own.mkdir()
        (own / f"{name}.py").write_text(text)
        package.__path__.append(str(own))
    yield
    for package, name, _ in files:
        package.__path__.remove(str(folder / package.__name__))
        sys.modules.pop(f"{package.__name__}.{name}", None)


readme_example.install()  # its method as well, whichever tests run


# Of what FixMatch's passes gave, they make something else: its passes are tried once.
SEAM = {"init_thresholds", "targets", "labeled_loss", "regularizer"}


def _takes_images_through_a_network():
    for word in algorithms.names():
        cls = algorithms.find(algorithms.method(word))
        fields = {field.name for field in dataclasses.fields(cls)}
        own = {name for name, _ in inspect.getmembers(cls, inspect.isfunction)}
        own = {name for name in own & vars(cls).keys() if not name.startswith("__")}
        trains = cls.draws_from != "graph" and not cls.embeds
        trains = trains and not cls.hides_patches  # of a ViT, which this one is not
        if "model" in fields and trains and not own <= SEAM:
            yield f"{word}.{cls.__name__}"


TAKE_IMAGES = sorted(_takes_images_through_a_network())


@pytest.mark.parametrize("name", [*TAKE_IMAGES, "fixmatch.FixMatch, weak views apart"])
def test_a_model_with_dropout_trains_with_every_algorithm(name):
    """In every pass of both steps it drops other units; but the same in what is
    compared, VAT's three passes of unlabeled images, and Meta Pseudo Labels' two of
    labeled ones."""
    name, _, apart = name.partition(", ")
    config = tiny.config(name, **({"weak_gradient": False} if apart else {}))
    if "strong" in config.train.augment:
        config.train.augment.update(weak="none", strong="none")  # compiles sooner
    elif "jitter" in config.train.augment:
        tiny.make_plain(config)
    config.model = base.model("dropping")
    heard = importlib.import_module("ssl_jax.models.dropping").heard
    phase = tiny.build(config)
    heard.clear()
    _, states, sums = tiny.train(phase, 2)
    jax.effects_barrier()

    assert all(np.isfinite(step["loss"].compute()) for step in sums)
    moved = states[0].params, states[-1].params
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, *moved)))
    passes = {
        "byol": 4,
        "moco": 4,
        "remixmatch": 3,
        "mixmatch": 2,
        "pi_model": 3,
        "entropy": 2,
    }
    passes |= {"simsiam": 2, "mean_teacher": 3, "pseudo_label": 2}
    passes |= {"swav": 3, "dino": 5}  # the small crops are one
    passes |= dict.fromkeys(("simclr", "supcon", "vicreg", "barlow_twins"), 2)
    passes |= {"fixmatch": 2 if apart else 1, "vat": 2, "meta_pseudo_labels": 3}
    compared = {"vat": 2, "meta_pseudo_labels": 1}  # passes that drop as one before
    word = name.partition(".")[0]
    assert len(heard) == 2 * (passes.get(word, 1) + compared.get(word, 0))
    assert len(set(map(str, heard))) == 2 * passes.get(word, 1), heard


def test_all_three_are_found_and_run_by_a_config(tmp_path):
    assert models.find("dropping").__name__ == "Dropping"
    assert "grainy" in augment.names() and "grainily" in algorithms.names()
    algorithm = base.algorithm(algorithms.method("grainily"))
    assert algorithm.rounds == 1000
    config = base.run("toy", train=base.phase(algorithm))
    assert config.train.augment.name == "grainy" and config.train.augment.amount == 0.1
    config.model = base.model("dropping", width=20)
    config.train.unlabeled_ratio = 0
    config = base.debug(config, 8, 8, 1, 10)
    assert config.model.to_dict() == base.model("dropping", width=20).to_dict()
    assert config.train.algorithm.rounds == 2
    result = run(config, tmp_path / "run", devices=jax.devices()[:1])
    assert result["phases"]["train"]["algorithm"] == "grainily.Grainily"
    assert result["phases"]["train"]["steps"] == 4


def test_what_is_not_there_is_refused_with_what_is():
    with pytest.raises(UserError, match="did you mean 'dropping'.*there are: appnp"):
        models.find("droping")
    with pytest.raises(UserError, match="did you mean 'grainy'.*weak_strong"):
        augment.find("grain")
    with pytest.raises(UserError, match="'basic' is unknown"):  # no `build`
        augment.find("basic")
