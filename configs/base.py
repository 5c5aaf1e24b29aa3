"""Every field that a config shares with others, once, with its meaning and unit.

A config file is a function `get_config(arg)`: it starts from `run`, changes what its
paper changes, and knows the words that may follow the colon in
`--config=configs/cifar10.py:flexmatch,torchssl,debug`. "Not set" is "", 0 or "auto":
ml_collections cannot override a field that holds None, nor give an int field 0.5.
"""

import difflib

from ml_collections import ConfigDict

from ssl_jax import algorithms, augment, models
from ssl_jax.core import named
from ssl_jax.errors import UserError
from ssl_jax.evaluate import protocol
from ssl_jax.train.parts import BEGINNING


def run(name: str, **sections: ConfigDict) -> ConfigDict:
    """A run on digits of these phases, in order: by `phase` or `probe`. Without any,
    of one, "train", FixMatch's. What a config does not change stays as here."""
    sections = sections or {"train": phase(algorithm("fixmatch.FixMatch"))}
    return ConfigDict(
        dict(
            name=name,  # of the run: the default workdir is runs/<name>-seed<seed>
            seed=0,  # of everything random: labels drawn, weights, batches, views
            # so many from `seed` on are trained at once, by vmap: a row is logged at
            # each evaluation, and no network is kept
            num_seeds=1,
            phases=tuple(sections),  # sections of this config, in order
            # parts that a step's images go through the network in, one after the other,
            # to save memory: the gradient is of all, BatchNorm sees a part at a time
            accumulate=1,
            # devices that a CPU's cores become, each with its rows of a batch; 0: as
            # many as divide it
            cpu_devices=0,
            deterministic=False,  # on a GPU: ops that repeat bit for bit, and slower
            tensorboard=True,  # event files too
            profile=0,  # steps of each phase to trace, into its profile/ in the workdir
            # fields that follow from the data, and the values that they have until
            # then: ssl_jax/train/adapted.py; what is set otherwise stays. {}: none
            adapt={},
            # settings that --mode=tune found, below what the command line says: its
            # policy.json, or a name in configs/policies
            policy="",
            data=dict(
                # "digits" and "digits_tutorial" (embedded), "stl10", "folder" (your own
                # images), any image classification set of TensorFlow Datasets; or for a
                # method on graphs "cora", "citeseer" or "pubmed"
                name="digits",
                dir="",  # where it is prepared; "": TFDS_DATA_DIR or tfds's default
                unlabeled="unlabeled",  # a folder's images without label: in it, or not
                # whether folders in a folder are its classes; False: no image below it
                # has a label, whatever folders they lie in, but by `labels`
                class_folders=True,
                strict=False,  # images that cannot be read are refused, not skipped
                labels="",  # a CSV file: image and label, as --mode=query writes it
                # "accept": a run goes on though images came or went since it began;
                # what `labels` says of one that went is skipped
                changed="",
                neighbors=5,  # of each node, where a method makes a graph of images
                digits_as=(8, 8, 1, 10),  # height, width, channels, classes of digits
                extra=False,  # SVHN's 531,131 easier images join the pool
                # "balanced"; "first" of the pool, as tutorials slice their arrays;
                # "two_phase": that tutorial's index lists; or "planetoid": Cora's own
                split="balanced",
                num_labels=40,  # labeled images in all, over all classes; 0: every one
                num_validation=0,  # more labeled images, held out to choose on
                num_unlabeled=0,  # images in the unlabeled set; 0: all there are
                # which classes are rarer: "exponential", each by the same factor
                # rarer than the one before, or "step", the second half of them; "": as
                # the split has them. num_labels and num_unlabeled are then as if all
                # were as frequent as the most frequent, and the latter of those
                # without a label
                imbalance="",
                # how many times as frequent the first class is as the last, among the
                # labeled images; below 1: the other way round
                gamma_labeled=1.0,
                gamma_unlabeled=1.0,  # likewise, among the others
                labeled_in_unlabeled=True,  # the unlabeled set has the labeled ones too
                fold=-1,  # STL-10's predefined labeled sets, 0 to 9; -1: by seed
                white=0,  # value that is white in files of more than 8 bits; 0: 65,535
                # of a file, Pillow's own limit: a larger one may be an attack, and is
                # not read; 0: any is
                max_pixels=89_478_485,
                image_size=0,  # pixels a side that images are brought to; 0: as stored
                # of the images: "device", "host", "stream" (they stay in their files,
                # and are decoded as they are needed), or by size
                placement="auto",
                workers=0,  # threads that decode a stream; 0: one for each core
            ),
            model=model("convnet"),
            query=dict(
                # the images to ask labels for: "entropy", "margin", "least_confidence",
                # "k_center", "typical" or "random"
                strategy="entropy",
                size=5,  # images asked about at once
                rounds=0,  # trainings that an oracle answers between; 0: no simulation
            ),
            predict=dict(
                dir="",  # images for --mode=predict or embed: a folder, or one of them
                # the file that they write; "": predictions.csv or features.npz in the
                # workdir, or _2, ...; of --mode=export a .zip or .safetensors
                out="",
            ),
            ablate=dict(
                # what --mode=ablate leaves out, one at a time, of PARTS in
                # ssl_jax/train/ablation.py; (): all that the run has
                parts=(),
                seeds=1,  # from `seed` on, each with and without the parts
            ),
            tune=dict(
                # that --mode=tune may take, over all its launches; 0: no limit
                minutes=10.0,
                trials=0,  # settings that it tries; 0: as many as there is time for
                held_out=0.25,  # of each class's labeled images, to choose by
                # to choose from, where the config's is one of them or their like
                methods=("fixmatch", "flexmatch", "softmatch"),
            ),
            **sections,
        )
    )


def phase(algorithm: ConfigDict) -> ConfigDict:
    """One section that `phases` may name. Sizes and counts are over all devices."""
    method = algorithms.find(algorithm.name)
    views, draws_from = method.views_kind, method.draws_from
    optimizer = dict(
        name="sgd",  # or "adam", "adamw", "lars"
        learning_rate=0.03,  # at its highest
        per_batch=0,  # the rate is for this batch_size, and scales; 0: for any
        schedule="cosine_7_16",  # or "cosine", "constant", "drops", "sixths"
        warmup_steps=0,  # steps of linear rise to the learning rate
        momentum=0.9,  # Adam's beta_1
        nesterov=True,  # of SGD; Adam has none
        weight_decay=5e-4,  # L2 in the gradient; AdamW's of the weights themselves
        decay_end=0.0,  # what it ends at, by half a cosine; 0: it stays
        decay_on="kernels",  # or "all": biases and BatchNorm's scales decay as well
        trust_coefficient=1e-3,  # eta of LARS; the others have none
        clip_lr=False,  # LARS holds each layer's rate at or below learning_rate
        # of a layer's rate, what the one before it has: for an encoder that goes on
        # from weights; 1.0: all learn alike
        layer_decay=1.0,
        # which train: "all"; "head", what is not the encoder's; or "2", the encoder's
        # last two blocks and what comes behind. Moments of BatchNorm move in all
        layers="all",
    )
    return ConfigDict(
        dict(
            algorithm=algorithm,  # name, and its hyper-parameters
            start_from="scratch",  # or an earlier phase, or another run's workdir
            keep=("encoder",),  # parts of its variables that come along; also "head"
            labels_from="",  # an earlier phase that labels the unlabeled images for it
            confidence=0.0,  # pseudo-labels at least so sure are taken
            # images so labeled of each class, its surest first, again and again where
            # there are fewer; 0: all that are sure enough
            per_class=0,
            # CReST's alpha: of a class whose labels are the l-th most frequent, such a
            # power of what the l-th rarest has of the most frequent one's number is the
            # part of its images so labeled that is taken, the surest; 0: all of each
            rarer_first=0.0,
            # nothing, where the algorithm has no gradients
            optimizer=optimizer if algorithms.takes(method, "tx") else {},
            # of the kind that the algorithm trains on, if it does on any
            augment=augmentation(views) if views else {},
            steps=1000,  # optimizer steps, or propagations
            # images a step; labeled ones, where the loss needs labels. 0: all at once
            batch_size=64 if draws_from in ("labeled", "unlabeled") else 0,
            # mu: unlabeled images a step, in units of batch_size
            unlabeled_ratio=7 if draws_from == "labeled" else 0,
            steps_per_call=1,  # steps in one compiled call: more pays for small models
            log_every=50,  # steps between lines of metrics.jsonl
            eval_every=100,  # steps between evaluations
            checkpoint_every=100,  # steps between checkpoints
            knn=0,  # neighbours that vote on each test image as it trains; 0: no k-NN
            patience=0,  # evaluations without a better validation accuracy; 0: no limit
            # evaluations: it stops at a stable validation loss, the lowest of the last
            # so many not lower than the lowest before them; 0: it does not
            loss_patience=0,
            loss_gain=0.0,  # lower by this part of it, that is; 0: by anything
            # evaluations: it stops at a validation loss above the mean of so many
            # before it, GCN's rule; 0: it does not
            loss_window=0,
        )
    )


def probe(start_from: str, **settings: object) -> ConfigDict:
    """A section of `phases` that trains no network: it judges the features that
    `start_from`, an earlier phase of this run, has learned. The fields are
    `ssl_jax.evaluate.protocol.Protocol`'s, explained there."""
    defaults = named.defaults(protocol.Protocol)
    return ConfigDict(dict(start_from=start_from, **(defaults | settings)))


def augmentation(kind: str, **settings: object) -> ConfigDict:
    """The fields of ssl_jax/augment/<kind>.py with their defaults, explained there."""
    return ConfigDict(_section(kind, augment.hparams(kind), settings))


def algorithm(name: str, **hparams: object) -> ConfigDict:
    """The algorithm's fields with their defaults, `hparams` laid over them."""
    defaults = named.defaults(algorithms.find(name))
    return ConfigDict(_section(name, defaults, hparams))


def model(name: str, **hparams: object) -> ConfigDict:
    """The model's fields with their defaults, `hparams` laid over them. An encoder has
    its own, and `dropout` of what its linear head sees in training."""
    beginning = dict(
        # a file that phases which start from scratch take their `keep` from instead: a
        # .safetensors, or of PyTorch. "": none
        weights="",
        # how images were for it, where no file beside it says so: "imagenet", "half"
        # (mean and std 127.5), or "as_configured"
        normalized="",
        partial=False,  # what fits the network is taken from it, and the rest is fresh
    )
    fields = models.hparams(name) | beginning
    return ConfigDict(_section(name, fields, hparams))


def named_sections(config: ConfigDict) -> list[str]:
    """The sections that `refill` fills: "model", "train.algorithm", "train.augment"."""
    phases = [
        name
        for name, section in config.items()
        if isinstance(section, ConfigDict) and "algorithm" in section
    ]
    return [
        "model",
        *(f"{n}.{part}" for part in ("algorithm", "augment") for n in phases),
    ]


def refill(config: ConfigDict, section: str, name: str) -> None:
    """Puts the model, algorithm or kind of views `name` into `section`, which is one of
    `named_sections`, with its defaults; nothing happens where it is there already.

    An algorithm that has no optimizer, or trains on other views, or draws from
    elsewhere than the one before it takes those settings as well from `phase`; and the
    run, where that one's name begins it, its name. What a model begins with stays: a
    file of weights, and how its images were.

    Raises:
      UserError: there is no such one; the message lists what exists.
    """
    at, _, part = section.rpartition(".")
    inside = config[at] if at else config
    before = inside[part].get("name", "")
    if name == before:
        return
    if part == "algorithm":
        _refill_algorithm(inside, name)
        old, new = (known.partition(".")[0] for known in (before, name))
        if config.name.startswith(f"{old}_"):
            config.name = config.name.replace(old, new, 1)
    elif part == "model":
        begins = {field: inside[part][field] for field in BEGINNING}
        inside[part] = model(name, **begins)
    else:
        inside[part] = augmentation(name)


def _refill_algorithm(section, name):
    before, fresh = section.algorithm.name, phase(algorithm(name))
    section.algorithm = fresh.algorithm
    if bool(section.optimizer) != bool(fresh.optimizer):
        section.optimizer = fresh.optimizer
    if section.augment.get("name", "") != fresh.augment.get("name", ""):
        section.augment = fresh.augment
    if algorithms.find(before).draws_from != algorithms.find(name).draws_from:
        section.update(
            batch_size=fresh.batch_size, unlabeled_ratio=fresh.unlabeled_ratio
        )


def words(
    arg: str | None, *known: str, methods: tuple[str, ...] = (), alone: bool = False
) -> set[str]:
    """The words after the colon; every config knows "debug" beside `known`.

    Args:
      methods: words as well, which the message lists apart.
      alone: `known` exclude each other.

    Raises:
      UserError: another word; the message lists those that are known.
    """
    given = set(filter(None, (arg or "").split(",")))
    if unknown := sorted(given - {*known, *methods, "debug"}):
        near = difflib.get_close_matches(unknown[0], [*known, *methods, "debug"], 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        apart = f", and the methods: {', '.join(methods)}" if methods else ""
        raise UserError(
            f"unknown word after the config's colon: {', '.join(unknown)}{hint}; "
            f"this config knows: {', '.join([*known, 'debug'])}{apart}."
        )
    if alone and len(given & {*known}) > 1:
        raise UserError(
            f"{' and '.join(sorted(given & {*known}))} exclude each other after the "
            "colon."
        )
    return given


def debug(config: ConfigDict, *digits_as: int) -> ConfigDict:
    """Seconds instead of hours: digits in place of the data, and everything small.

    Args:
      *digits_as: height, width, channels and classes of the data they stand in for.
    """
    classes = digits_as[-1]
    config.update(name=f"{config.name}_debug", tensorboard=False)
    config.query.rounds = min(config.query.rounds, 2)
    config.data.update(
        name="digits",
        digits_as=digits_as,
        image_size=min(config.data.image_size, digits_as[0]),
        num_labels=2 * classes,
        num_unlabeled=0,
        num_validation=min(config.data.num_validation, classes),
        extra=False,
        split="balanced",
        imbalance="",
        gamma_labeled=1.0,
        gamma_unlabeled=1.0,
        fold=-1,
        placement="auto",
    )
    if small := models.stand_in(config.model.name):
        name, hparams = small
        config.model = model(name, **hparams)
    for name in config.phases:
        phase = config[name]
        if "algorithm" not in phase:
            phase.update(epochs=2, folds=2, learning_rates=(0.1,), l2s=(0.01,))
            phase.update(baselines=(), map_images=0)
            continue
        if "/" in phase.start_from:  # another run's workdir
            phase.start_from = "scratch"
        phase.algorithm.update(algorithms.find(phase.algorithm.name).small)
        if phase.augment.get("side"):
            sizes = dict(side=digits_as[0] * 2 // 3, resize=digits_as[0])
            phase.augment.update({k: v for k, v in sizes.items() if k in phase.augment})
        phase.update(steps=4, log_every=2, eval_every=2, checkpoint_every=2)
        phase.update(
            batch_size=min(phase.batch_size, 8),
            unlabeled_ratio=min(phase.unlabeled_ratio, 2),
            steps_per_call=min(phase.steps_per_call, 2),
        )
        if phase.optimizer:
            phase.optimizer.warmup_steps = min(phase.optimizer.warmup_steps, 1)
        phase.confidence = 0.0  # after 4 steps no network is sure of anything
        phase.per_class = min(phase.per_class, 10)
    return config


def _section(name, defaults, hparams):
    if unknown := hparams.keys() - defaults.keys():
        raise TypeError(
            f"{name} has no {', '.join(sorted(unknown))}; it has {', '.join(defaults)}."
        )
    return {"name": name, **defaults, **hparams}
