"""A few labels, and an encoder that is there: label spreading and a linear probe on the
features that --config.model.weights=FILE has of --config.data.dir=a folder.

The folder is configs/folder.py's: one for each class, and `unlabeled`. Each image is
looked at once, so that it takes seconds on a CPU with the small network here, which is
configs/byol_folder.py's and byol_cifar10:small's; --config.model.name and the like put
in the file's. --mode=predict, embed and query go by the probe, or with
--config.phases=spreading by what the labels reach.

`:imagenet` or `:half` says how images were normalised for a file that does not say so
itself.
"""

from configs import base, folder
from ssl_jax.train.weights import NORMALIZED


def get_config(arg: str = ""):
    words = base.words(arg, *NORMALIZED, alone=True)
    spreading = base.phase(base.algorithm("feature_spreading.FeatureSpreading"))
    spreading.update(steps=100, steps_per_call=10)
    probe = base.phase(base.algorithm("linear_probe.LinearProbe"))
    probe.update(steps=200, steps_per_call=10)
    # Over all labels at once it goes to where the loss and the decay have their least.
    probe.optimizer.update(
        name="adam", learning_rate=0.01, schedule="cosine", weight_decay=0.1
    )
    config = base.run("features_folder", spreading=spreading, probe=probe)
    shared = folder.get_config()
    config.data, config.model = shared.data, shared.model
    for name in words & {*NORMALIZED}:
        mean, std = NORMALIZED[name]
        config.model.normalized = name
        for phase in (spreading, probe):
            phase.augment.update(mean=mean, std=std)
    for name in config.phases:
        config[name].update(log_every=20, eval_every=config[name].steps)
        config[name].checkpoint_every = config[name].steps
    return base.debug(config, 8, 8, 3, 10) if "debug" in words else config
