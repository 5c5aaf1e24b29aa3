"""Active learning by label spreading on digits, simulated: after scikit-learn's example
plot_label_propagation_digits_active_learning.

330 images, 40 of them labeled, and in 5 rounds the 5 of highest entropy are asked. The
example's code sorts ascending, and so asks the most certain ones; its text asks for the
most uncertain, as here. Seeds draw other images and labels, and the labels are balanced
over the classes, which the example's are not.
"""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg)
    spreading = base.algorithm(
        "label_spreading.LabelSpreading",
        gamma=0.25,
        alpha=0.2,
        scale=16.0,  # the example's pixels, for which its gamma is
    )
    config = base.run("active_digits", train=base.phase(spreading))
    config.data.update(num_labels=40, num_unlabeled=290, labeled_in_unlabeled=False)
    config.train.update(
        steps=20,
        steps_per_call=5,
        log_every=5,
        eval_every=20,
        checkpoint_every=20,
    )
    config.query.update(strategy="entropy", size=5, rounds=5)
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config
