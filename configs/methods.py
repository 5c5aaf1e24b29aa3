"""The method as a word: `--config=configs/cifar10.py:flexmatch,cta`.

A data set's file builds FixMatch's run; `instead` puts the method in FixMatch's place.
What a method says of such a run stands here where it holds for several data sets, and
in the data set's own METHODS where it does not.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import base
from ssl_jax import algorithms
from ssl_jax.errors import UserError

# {method: {field of the config: value}}, fields as behind --config.
Says = Mapping[str, Mapping[str, object]]

EVERYWHERE: Says = {
    "supervised": {"train.unlabeled_ratio": 0},
    "noisy_student": {"train.unlabeled_ratio": 0, "train.confidence": 0.5},
    # In one pass, as its authors have it, on small networks too: it holds the features
    # of a weak view up to those of a strong one, and BatchNorm that sees them apart
    # has other features of each.
    "daso": {"train.algorithm.weak_gradient": True},
}
# On the papers' data sets, where FixMatch has 64 + 448 images a step over
# 2^20 steps: 64 + 64 images; or 512 in three phases, in all over 3/8 of the steps.
PAPERS: Says = {
    "pseudo_label": {"train.unlabeled_ratio": 1},
    "pi_model": {"train.unlabeled_ratio": 1},
    "mean_teacher": {"train.unlabeled_ratio": 1},
    "vat": {"train.unlabeled_ratio": 1},
    # SGD and cosine as in FixMatch's code (mixmatch.py there), and for ReMixMatch in
    # TorchSSL too, where their papers have Adam at a constant 0.002.
    "mixmatch": {"train.unlabeled_ratio": 1},
    "remixmatch": {"train.unlabeled_ratio": 1},
    "noisy_student": {"train.steps": 2**17, "train.batch_size": 512},
}


# Where USB's protocol (`usb`) has other values than here by default:
# microsoft/Semi-supervised-learning at 1ef4cbe, config/usb_cv. Ramps are of 204,800
# steps; the teachers are those that it judges by, where others have none.
USB: Says = {
    "comatch": {
        "train.algorithm.ema_decay": 0.999,
        "train.algorithm.memory_steps": 32,
    },
    "mean_teacher": {"train.algorithm.ema_decay": 0.999},
    "mixmatch": {
        "train.algorithm.alpha": 0.5,
        "train.algorithm.rampup_steps": 81_920,
        "train.algorithm.unlabeled_weight": 10.0,
    },
    "remixmatch": {"train.algorithm.rampup_steps": 3_200},
    # One rate for all layers, on either data set.
    "sequencematch": {
        "train.optimizer.learning_rate": 5e-5,
        "train.optimizer.layer_decay": 1.0,
    },
    "simmatch": {"train.algorithm.ema_decay": 0.999},
    "vat": {"train.algorithm.unlabeled_weight": 1.0},
}


# Beside BYOL's heads where those are narrow, so that a head is no larger than what it
# is on: the papers have 65,536 and 3,000.
NARROW: Says = {
    "dino": {
        "pretrain.algorithm.out": 256,
        "pretrain.algorithm.bottleneck": 64,
        "pretrain.algorithm.momentum": 0.99,  # as BYOL's begins where steps are few
    },
    "swav": {"pretrain.algorithm.prototypes": 256},
}


def masked(
    learning_rate: float,
    *,
    steps: int,
    decoder: tuple[int, int, int],
    area: tuple[float, ...] = (),
    **model,
) -> Says:
    """MAE in BYOL's place: on a Vision Transformer, with AdamW and the paper's decay,
    on crops with the colours that they have (arXiv:2111.06377, tables 1e and 8). Adam's
    beta_2 is 0.999, where theirs is 0.95.

    Args:
      learning_rate: for 256 images a step; in the paper, 1.5e-4.
      steps: in all; the rate rises over 1 of 20, the paper's 40 of 800 epochs.
      decoder: width, blocks and heads.
      area: of the crops, 0.2 to 1 of the image in its code; (): BYOL's there.
      **model: fields of models/vit.py.
    """
    fields = zip(("width", "depth", "heads"), decoder, strict=True)
    plain = {"jitter": 0.0, "grey": 0.0, "blur": (0.0, 0.0), "solarize": (0.0, 0.0)}
    plain |= {"area": area} if area else {}
    optimizer = {
        "name": "adamw",
        "learning_rate": learning_rate,
        "per_batch": 256,
        "schedule": "cosine",
        "warmup_steps": steps // 20,
        "weight_decay": 0.05,
        "clip_lr": False,
    }
    return {
        "mae": {
            "model.name": "vit",
            **{f"model.{field}": value for field, value in model.items()},
            **{f"pretrain.algorithm.decoder_{name}": size for name, size in fields},
            **{f"pretrain.augment.{field}": value for field, value in plain.items()},
            **{f"pretrain.optimizer.{field}": v for field, v in optimizer.items()},
        }
    }


def early(steps: int) -> Says:
    """Of a run with so many steps, where the papers' ramps would outlast it: what rises
    has risen, what begins has begun, well before the end."""
    rises = {"train.algorithm.rampup_steps": steps // 2}
    return {
        "dash": {
            "train.algorithm.warmup_steps": steps // 10,
            "train.algorithm.round_steps": steps // 10,
        },
        "daso": {"train.algorithm.warmup_steps": steps // 10},
        "mixmatch": rises,
        "remixmatch": rises,
    }


def short(steps: int) -> Says:
    """Of a run that ends within a few thousand steps: `early`'s, and averages remember
    100 of them and not 1,000."""
    ramps = early(steps)
    return {
        **ramps,
        "adamatch": {"train.algorithm.distribution_decay": 0.99},
        "crest": {"train.algorithm.distribution_decay": 0.99},
        "freematch": {"train.algorithm.threshold_decay": 0.99},
        # UDA's own: the method's are for 4,000 labels, and with 40 its teacher believes
        # itself too soon.
        "meta_pseudo_labels": {
            "train.algorithm.threshold": 0.8,
            "train.algorithm.temperature": 0.4,
            "train.algorithm.unlabeled_weight": 1.0,
            "train.algorithm.label_smoothing": 0.0,
        },
        "mixmatch": {"train.unlabeled_ratio": 1, **ramps["mixmatch"]},
        "remixmatch": {"train.unlabeled_ratio": 1, **ramps["remixmatch"]},
        "simmatch": {"train.algorithm.memory_after": steps // 10},
        "softmatch": {"train.algorithm.moments_decay": 0.99},
    }


def names() -> dict[str, str]:
    """The words, and the names of their methods: {"flexmatch": "flexmatch.FlexMatch"}.

    They draw labeled batches and train on weak and strong views. A new file in
    ssl_jax/algorithms is among them by itself.
    """
    found = {word: algorithms.method(word) for word in algorithms.names()}
    kinds = {word: algorithms.find(name) for word, name in found.items()}
    return {
        word: found[word]
        for word, kind in kinds.items()
        if (kind.draws_from, kind.views_kind) == ("labeled", "weak_strong")
    }


def chosen(arg: str | None, *known: str) -> tuple[str, set[str]]:
    """The method among the words after a data set's colon, FixMatch without one, and
    the other words.

    Raises:
      UserError: a word that is neither a method nor `known`, two methods, or a word
        that says nothing of this method.
    """
    there = names()
    words = base.words(arg, *known, methods=tuple(there))
    given = sorted(words & there.keys())
    if len(given) > 1:
        raise UserError(
            f"{' and '.join(given)} after the config's colon are {len(given)} methods; "
            "give one."
        )
    method = given[0] if given else "fixmatch"
    words -= {method}
    if "cta" in words and not algorithms.find(there[method]).learns_augmentation:
        raise UserError(
            f"{method} learns no strong view, as cta is one; leave out cta."
        )
    if method == "noisy_student" and (others := sorted(words - {"debug"})):
        raise UserError(
            "noisy_student has settings of its own on each data set; leave out "
            f"{', '.join(others)}."
        )
    return method, words


def instead(config: ConfigDict, method: str, *says: Says) -> ConfigDict:
    """`config`, which is FixMatch's, for another method: same data, network, optimizer
    and steps, teacher and passes through the network, but the method's own thresholds
    and weights; and what EVERYWHERE and then `says` have on the method."""
    if method != "fixmatch":
        config.name = config.name.replace("fixmatch", method, 1)
        name = names()[method]
        shared = {
            field: config.train.algorithm[field]
            for field in ("ema_decay", "ema_warmup", "weak_gradient")
            if field in base.algorithm(name)
        }
        config.train.algorithm = base.algorithm(name, **shared)
    config.lock()  # a field that it does not have is an error
    for table in (EVERYWHERE, *says):
        config.update_from_flattened_dict(table.get(method, {}))
    config.unlock()
    if method == "noisy_student":
        _in_rounds(config, "teacher", "student1", "student2")
        # It has the labels alone.
        config.teacher.update(confidence=0.0, per_class=0)
    if method == "crest":
        _in_rounds(config, "generation1", "generation2", "generation3")
        for name, t in zip(config.phases, (1.0, 0.75, 0.5), strict=True):
            config[name].algorithm.alignment = t
            config[name].rarer_first = 1 / 3 if config[name].labels_from else 0.0
    return config


def _in_rounds(config, *phases):
    """Each as the phase "train" is, and labeled by the one before it."""
    train = config.train.to_dict()
    del config["train"]
    config.phases = phases
    for name, teacher in zip(phases, ("", *phases[:-1]), strict=True):
        config[name] = ConfigDict({**train, "labels_from": teacher})


def embeddings() -> dict[str, str]:
    """The words of methods that learn from crops of images without a label, and their
    names: BYOL's kind, and MAE. A new file in ssl_jax/algorithms is among them by
    itself."""
    found = {word: algorithms.method(word) for word in algorithms.names()}
    return {
        word: name
        for word, name in found.items()
        if algorithms.find(name).views_kind in ("two_crops", "multi_crop")
    }


def embedded(arg: str | None, *known: str, alone: bool = False) -> tuple[str, set[str]]:
    """The method of `embeddings` among the words, BYOL without one, and the others.

    Args:
      alone: `known` exclude each other.

    Raises:
      UserError: a word that is neither a method nor `known`, or two methods.
    """
    there = embeddings()
    words = base.words(arg, *known, methods=tuple(there), alone=alone)
    given = sorted(words & there.keys())
    if len(given) > 1:
        raise UserError(
            f"{' and '.join(given)} after the config's colon are {len(given)} methods; "
            "give one."
        )
    return (given[0] if given else "byol"), words - {*given}


def instead_of_byol(config: ConfigDict, method: str, *says: Says) -> None:
    """Puts the method into the phase `pretrain` of `config`, which is BYOL's: same
    data, network, views, optimizer, batches and steps, and the same value of the
    hyper-parameters and the views that both have; but for what `says` have on the
    method, of which "model.name" comes first and puts another network in place."""
    pretrain = config.pretrain
    batch_size, before = pretrain.batch_size, pretrain.copy_and_resolve_references()
    base.refill(config, "pretrain.algorithm", embeddings()[method])
    for part in ("algorithm", "augment"):
        shared = {*pretrain[part]} & {*before[part]} - {"name"}
        pretrain[part].update({field: before[part][field] for field in shared})
    if "small_blur" in pretrain.augment and not any(pretrain.augment.blur):
        pretrain.augment.small_blur = 0.0
    # SupCon draws images with labels, and no others beside them.
    pretrain.update(batch_size=batch_size, unlabeled_ratio=0)
    for fields in (dict(table.get(method, {})) for table in says):
        base.refill(config, "model", fields.pop("model.name", config.model.name))
        config.lock()  # a field that it does not have is an error
        config.update_from_flattened_dict(fields)
        config.unlock()


def fixmatch_paper(data: str, name: str, words: set[str], **torchssl) -> ConfigDict:
    """What FixMatch's settings have in common over the papers' data sets.

    Args:
      data: what configs call the data set, "svhn".
      name: what it is called where it comes from, "svhn_cropped".
      words: with "torchssl" in it the settings are those of TorchSSL (and FlexMatch's
        paper and USB) where they differ from google-research/fixmatch: RandAugment
        with 3 operations, whitened input, an evaluation every 5,000 steps, of which
        they report the best. With "cta" the strong view is CTAugment. With "usb" the
        views are torchssl's, and `usb` below puts in the rest.
      **torchssl: mean and std, grey levels of each channel, for that input.
    """
    pairs = (("google", "torchssl"), ("cta", "torchssl"), ("cta", "usb"))
    for one, other in (*pairs, ("google", "usb"), ("torchssl", "usb")):
        if {one, other} <= words:
            raise UserError(f"{one} and {other} exclude each other after the colon.")
    config = base.run(f"fixmatch_{data}")
    config.data.update(name=name)
    # Averages of one decay from the first step on, as in both codes.
    config.model = base.model("wide_resnet", bn_warmup=False)
    config.train.algorithm.ema_warmup = False
    config.train.update(
        steps=2**20,
        log_every=256,
        eval_every=1024,  # the median of the last 20 is what the paper reports
        checkpoint_every=1024,
    )
    if "cta" in words:
        config.name = f"{config.name}_cta"
        config.train.augment.strong = "ctaugment"
    if "torchssl" in words:
        config.name = f"{config.name}_torchssl"
        config.train.augment.update(strong="randaugment_torchssl", **torchssl)
        config.train.update(log_every=250, eval_every=5000, checkpoint_every=1000)
    if "usb" in words:
        config.train.augment.update(strong="randaugment_torchssl", **torchssl)
    return config


def usb(
    config: ConfigDict,
    *,
    network: Mapping[str, object],
    learning_rate: float,
    layer_decay: float,
) -> None:
    """Puts USB's protocol (arXiv:2208.07204, appendix E, by config/usb_cv at 1ef4cbe)
    into a FixMatch of `fixmatch_paper`: a Vision Transformer that goes on from weights,
    which `model.weights` has to name, AdamW, and a fifth of the papers' steps, of 8 + 8
    images.

    Args:
      network: of `vit`: its size and patch.
      learning_rate, layer_decay: the data set's.
    """
    config.name = f"{config.name}_usb"
    # Images are normalised by the data set's own moments, whatever the file's were.
    config.model = base.model(
        "vit", stochastic_depth=0.2, normalized="as_configured", **network
    )
    config.train.algorithm.ema_decay = 0.0  # the network itself is judged
    config.train.optimizer.update(
        name="adamw",
        learning_rate=learning_rate,
        layer_decay=layer_decay,
        warmup_steps=5_120,
        weight_decay=5e-4,
    )
    config.train.update(
        steps=204_800,
        batch_size=8,
        unlabeled_ratio=1,
        log_every=512,
        eval_every=2_048,  # of these the best is reported
        checkpoint_every=2_048,
    )
