"""Every config there is, with every method and word that it takes, is sound."""

import importlib
import re

import pytest
from ml_collections import ConfigDict

from configs import (
    base,
    byol_imagenet,
    byol_stl10,
    cifar10,
    digits,
    gcn_cora,
    imagenet,
    methods,
    stl10,
    two_phase_cifar10,
)
from known_configs import (
    DATA_SETS,
    EXPERIMENTS,
    FILES,
    METHODS,
    ROOT,
    get,
    name_of,
    words_of,
)
from ssl_jax.errors import UserError
from ssl_jax.train import sections

WITHOUT_CTA = ("pseudo_label", "pi_model", "mean_teacher", "mixmatch", "supervised")
WITHOUT_CTA += ("vat", "meta_pseudo_labels")
PAPERS = ["cifar10", "cifar100", "imagenet", "stl10", "svhn"]


def test_every_method_is_a_word_of_every_data_set():
    """And what is said of a method is said of one that is there."""
    assert set(DATA_SETS) == {
        *("cifar10", "cifar100", "digits", "folder", "imagenet", "mnist", "stl10"),
        "svhn",
    }
    assert {"fixmatch", "noisy_student", "supervised"} < set(METHODS)
    for data in DATA_SETS:
        assert words_of(data)[1] == METHODS
        assert get(data, "fixmatch").to_dict() == get(data).to_dict()
        assert set(importlib.import_module(f"configs.{data}").METHODS) <= set(METHODS)
    for says in (methods.EVERYWHERE, methods.PAPERS, methods.short(10)):
        assert set(says) <= set(METHODS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", DATA_SETS)
def test_every_method_and_word_of_a_data_set_is_sound(data, method):
    for word in ["", *words_of(data)[0]]:
        words = ",".join(filter(None, (method, word)))
        if (
            (word and method == "noisy_student")
            or (word == "cta" and method in WITHOUT_CTA)
            or (word == "tutorial" and method != "flexmatch")
        ):
            with pytest.raises(UserError, match="leave out|is FlexMatch's"):
                get(data, words)
            continue
        config = get(data, words)
        suffix = f"_{word}" if word not in ("", "google") else ""
        assert config.name == f"{method}_{data}{suffix}"
        assert {
            config[name].algorithm.name.partition(".")[0] for name in config.phases
        } == {method}
        sections.parse(config)
        debug = get(data, f"{words},debug")
        assert debug.name == f"{config.name}_debug" and debug.data.name == "digits"
        sections.parse(debug)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_word_of_an_experiment_gives_a_sound_configuration(name):
    for word in ["", *words_of(name)[0]]:
        for words in (word, f"{word},debug"):
            config = get(name, words)
            if words == word and word not in ("finetune", "scratch"):
                of_graph = f"gcn_{word or 'cora'}"
                assert config.name in (name, f"{name}_{word}", of_graph)
            sections.parse(config, to_train=False)


@pytest.mark.parametrize("name", FILES)
def test_name_is_the_files_and_the_documents_have_its_command(name):
    assert get(name).name == name_of(name, "")
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text() for page in pages)
    assert re.search(rf"--config=(configs/)?{name}\b", text), name


@pytest.mark.parametrize("data", DATA_SETS)
def test_supervised_shares_all_but_the_unlabeled_images(data):
    floor, other = get(data, "supervised"), get(data)
    assert floor.train.algorithm.ema_decay == other.train.algorithm.ema_decay
    assert floor.train.unlabeled_ratio == 0
    for config in (floor, other):
        config.name = ""
        config.train.unlabeled_ratio = 0
        config.train.algorithm = ConfigDict()
    assert floor.to_dict() == other.to_dict()


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m not in ("noisy_student", "crest")]
)
@pytest.mark.parametrize("data", DATA_SETS)
def test_methods_share_data_network_optimizer_and_steps(data, method):
    """So that a difference between them is the method's."""
    config, other = get(data, method), get(data)
    assert config.data == other.data and config.model == other.model
    for field in ("optimizer", "augment", "steps", "batch_size"):
        assert config.train[field] == other.train[field], field


@pytest.mark.parametrize("data", DATA_SETS)
def test_averages_rise_but_where_a_papers_code_has_one_decay(data):
    """BatchNorm's moments and the teacher: on by default, off in configs of papers."""
    rise = data not in PAPERS
    for method in METHODS:
        config = get(data, method)
        assert config.model.bn_warmup == rise, method
        for phase in config.phases:
            assert config[phase].algorithm.ema_warmup == rise, method


@pytest.mark.parametrize("data", DATA_SETS)
def test_daso_has_one_pass_over_all_views(data):
    """As its authors' code: it compares features of the weak and the strong ones."""
    assert get(data, "daso").train.algorithm.weak_gradient


@pytest.mark.parametrize(
    ("data", "words", "field", "value"),
    [
        ("cifar10", "comatch", "contrast_weight", 1.0),
        ("stl10", "comatch", "contrast_weight", 5.0),
        ("stl10", "comatch,usb", "contrast_weight", 5.0),
        ("cifar10", "daso,lt", "dist_temperature", 1.5),
        ("cifar100", "daso", "dist_temperature", 0.3),
        ("stl10", "daso", "dist_temperature", 0.3),
        ("cifar10", "remixmatch", "num_strong", 1),
        ("cifar10", "remixmatch,lt", "num_strong", 8),
        ("svhn", "mixmatch", "alpha", 0.75),
        ("svhn", "mixmatch,torchssl", "alpha", 0.25),
    ],
)
def test_a_method_has_what_codes_have_for_the_data_set(data, words, field, value):
    assert get(data, words).train.algorithm[field] == value


@pytest.mark.parametrize("data", DATA_SETS)
def test_what_rises_or_waits_ends_by_the_middle_of_a_run(data):
    """Of each method that counts steps, with each word, and the two that shorten."""
    counted = {"rampup_steps", "warmup_steps", "memory_after", "round_steps"}
    fields = {m: counted & {*base.algorithm(methods.names()[m])} for m in METHODS}
    both = ["lt,small"] if data == "cifar10" else []
    for word in ["", *words_of(data)[0], *both]:
        for method in (m for m in METHODS if fields[m]):
            try:
                train = get(data, f"{method},{word}").train
            except UserError:  # that word says nothing of this method
                continue
            for field in fields[method]:
                assert train.algorithm[field] <= train.steps / 2, (word, method, field)


@pytest.mark.parametrize(
    ("name", "rise"),
    [
        *(("byol_cifar10", False), ("byol_stl10", False), ("byol_imagenette", False)),
        *(("byol_imagenet", False), ("simsiam_cifar10", False), ("byol_digits", True)),
    ],
)
def test_moments_of_self_supervised_papers_have_one_momentum(name, rise):
    assert get(name).model.bn_warmup == rise


def test_methods_that_learn_no_strong_view_refuse_ctaugment():
    """And FlexMatch's tutorial, which is a whole, goes with no other word."""
    for name in WITHOUT_CTA:
        with pytest.raises(UserError, match=f"{name} learns no strong view, as cta"):
            cifar10.get_config(f"{name},cta")
    with pytest.raises(UserError, match="leave out small, torchssl"):
        cifar10.get_config("flexmatch,tutorial,small,torchssl")
    with pytest.raises(UserError, match="tutorial is FlexMatch's, not uda's"):
        cifar10.get_config("uda,tutorial")
    with pytest.raises(UserError, match="of its own on each data set; leave out small"):
        cifar10.get_config("noisy_student,small")
    with pytest.raises(UserError, match="dash and flexmatch after .* are 2 methods"):
        cifar10.get_config("flexmatch,dash")


def test_planetoids_sets_are_words():
    for words, name, labels in (
        ("", "gcn_cora", 140),
        ("cora", "gcn_cora", 140),
        ("citeseer", "gcn_citeseer", 120),
        ("pubmed,gat", "gcn_pubmed_gat", 60),
        ("sgc,citeseer", "gcn_citeseer_sgc", 120),
    ):
        config = gcn_cora.get_config(words)
        assert (config.name, config.data.num_labels) == (name, labels)
        assert config.name.startswith(f"gcn_{config.data.name}")
    for words, decay, steps in (  # SGC-tuning/ and README of its code
        ("sgc", 1.3e-5, 100),
        ("sgc,citeseer", 2.35e-5, 150),
        ("sgc,pubmed", 7.4e-5, 100),
    ):
        train = gcn_cora.get_config(words).train
        assert (train.algorithm.weight_decay, train.steps) == (decay, steps)
    with pytest.raises(UserError, match="citeseer and pubmed exclude each other"):
        gcn_cora.get_config("pubmed,citeseer")
    with pytest.raises(UserError, match="exclude each other"):
        gcn_cora.get_config("gat,sgc")


def test_fine_tuning_and_its_floor_differ_in_where_they_start():
    tuned, floor = byol_stl10.get_config("finetune"), byol_stl10.get_config("scratch")
    assert tuned.train.start_from == "runs/byol_stl10-seed0/pretrain"
    assert floor.train.start_from == "scratch"
    assert floor.train == byol_stl10.get_config().supervised
    assert floor.name == "scratch_stl10" != stl10.get_config("supervised").name
    with pytest.raises(UserError, match="finetune and scratch exclude each other"):
        byol_stl10.get_config("finetune,scratch")
    with pytest.raises(UserError, match="paper96 and tutorial exclude each other"):
        byol_stl10.get_config("paper96,tutorial")


def test_fixmatch_on_imagenet_has_the_settings_of_its_code():
    config = imagenet.get_config()
    train, epoch = config.train, 128_000 // 1_024  # of the labeled images
    assert (train.batch_size, train.batch_size * train.unlabeled_ratio) == (1024, 5120)
    assert (train.steps, train.optimizer.warmup_steps) == (3_000 * epoch, 50 * epoch)
    algorithm = train.algorithm
    assert (algorithm.threshold, algorithm.unlabeled_weight) == (0.7, 10.0)
    assert train.optimizer.learning_rate == pytest.approx(0.1 * 1_024 / 256)
    assert train.optimizer.weight_decay == pytest.approx(2 * 3e-4)
    assert train.optimizer.schedule == "sixths"
    assert config.data.placement == "stream" and config.data.num_labels == 128_000


def test_byol_on_imagenet_is_a_word_as_well():
    for words in ("", "epochs300", "debug"):
        whole = byol_imagenet.get_config(words)
        assert imagenet.get_config(f"byol,{words}").to_dict() == whole.to_dict()
    settings = {}
    for words in ("", "epochs300"):  # its code's presets
        pretrain = byol_imagenet.get_config(words).pretrain
        optimizer = pretrain.optimizer
        settings[words] = (
            *(pretrain.steps // 312, pretrain.batch_size, optimizer.learning_rate),
            *(optimizer.weight_decay, pretrain.algorithm.tau_base),
        )
    assert settings == {
        "": (1000, 4096, 0.2, 1.5e-6, 0.996),
        "epochs300": (300, 4096, 0.3, 1e-6, 0.99),
    }
    with pytest.raises(UserError, match="knows: epochs300, debug"):
        imagenet.get_config("byol,flexmatch")


@pytest.mark.parametrize("name", [f for f in EXPERIMENTS if f.startswith("byol_")])
def test_methods_that_embed_views_are_words_where_byol_is(name):
    there, data = methods.embeddings(), name.removeprefix("byol_")
    assert {"byol", "simsiam", "simclr", "supcon", "vicreg", "dino", "mae"} < set(there)
    for word in there:
        sections.parse(get(name, f"{word},debug"))
        for other in ["", *words_of(name)[0]]:
            config, byol = (get(name, f"{w},{other}") for w in (word, ""))
            sections.parse(config, to_train=False)
            if "train" in config:  # it goes on with what this learned, or would
                learned = get(name, word)
                assert config.model == learned.model, other
                beginning = config.train.start_from.removesuffix("/pretrain")
                assert beginning in ("scratch", f"runs/{learned.name}-seed0")
                continue
            assert config.name == "_".join(filter(None, (word, data, other)))
            assert config.pretrain.algorithm.name == there[word]
            if (word, name, other) == ("simsiam", "byol_cifar10", ""):
                assert config.to_dict() == get("simsiam_cifar10").to_dict()
                continue
            assert config.data == byol.data
            for field in ("steps", "batch_size", "knn"):
                assert config.pretrain[field] == byol.pretrain[field], field
            if word == "mae":
                continue  # which has a network of its own
            assert config.model == byol.model
            own = {"name"}
            if (word, name) == ("dino", "byol_digits"):
                own |= {"learning_rate", "warmup_steps"}
            for part in ("algorithm", "augment", "optimizer"):
                for field, value in byol.pretrain[part].items():
                    if field not in own and field in config.pretrain[part]:
                        assert config.pretrain[part][field] == value, field
    with pytest.raises(UserError, match="simclr and vicreg after .* are 2 methods"):
        get(name, "simclr,vicreg")


def test_maes_crops_are_its_codes_but_where_images_are_small():
    least = {"byol_digits": 0.7}
    for name in (file for file in EXPERIMENTS if file.startswith("byol_")):
        area = get(name, "mae").pretrain.augment.area
        assert area == (least.get(name, 0.2), 1.0), name


def test_two_phases_hand_over_their_network_and_stop_by_validation():
    config, floor = map(two_phase_cifar10.get_config, ("", "supervised"))
    assert config.supervised == floor.supervised and config.data == floor.data
    assert config.data.num_validation and config.model == floor.model
    first, second = config.supervised, config.semi_supervised
    assert (second.start_from, second.keep) == ("supervised", ("encoder", "head"))
    assert first.loss_patience and second.loss_patience
    assert floor.semi_supervised.unlabeled_ratio == 0
    for field in ("optimizer", "augment", "steps", "loss_patience", "loss_gain"):
        assert floor.semi_supervised[field] == second[field], field
    baseline = two_phase_cifar10.get_config("baseline,64px")
    assert baseline.name == "two_phase_cifar10_baseline_64px"
    assert baseline.data.num_validation == 0 and baseline.train.augment.scale_to == 64
    with pytest.raises(UserError, match="baseline and supervised exclude each other"):
        two_phase_cifar10.get_config("baseline,supervised")


def test_unknown_words_and_fields_name_what_there_is():
    known = "google, torchssl, cta, lt, small, tutorial, debug, and the methods: abc"
    with pytest.raises(UserError, match=f"ctaa .did you mean cta.*knows: {known}, "):
        cifar10.get_config("ctaa,debug")
    with pytest.raises(UserError, match="knows: debug, and the methods: .*, uda"):
        digits.get_config("small")
    with pytest.raises(UserError, match="exclude each other"):
        cifar10.get_config("google,torchssl")
    with pytest.raises(UserError, match="cta and torchssl exclude"):
        cifar10.get_config("cta,torchssl")
    with pytest.raises(TypeError, match="FixMatch has no tau; it has threshold"):
        base.algorithm("fixmatch.FixMatch", tau=0.9)
    with pytest.raises(UserError, match=r"fixmatch.*supervised"):
        base.algorithm("flexmuch.FlexMuch")


def test_a_method_says_nothing_of_fields_that_are_not_there():
    with pytest.raises((KeyError, AttributeError), match="ramp"):
        methods.instead(base.run("x"), "uda", {"uda": {"train.algorithm.ramp": 1}})


def test_every_leaf_has_a_comment():
    """base.py is the reference that README and docs/ send people to."""
    lines = (ROOT / "configs/base.py").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def run"))
    end = next(i for i, line in enumerate(lines) if line.startswith("def algorithm"))
    bare = [
        lines[i].strip()
        for i in range(start, end)
        if "=" in lines[i]
        and lines[i].rstrip().endswith(",")
        and "#" not in lines[i]
        and not lines[i - 1].strip().startswith("#")
        and "(" not in lines[i]
    ]
    assert not bare
