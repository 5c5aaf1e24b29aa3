"""Active learning by label spreading on digits, simulated: scikit-learn's example
plot_label_propagation_digits_active_learning.

Its 330 images, the first 40 labeled; 5 trainings, and after each the 5 images of
highest entropy are asked about. (A tutorial made of it sorts ascending, and so asks
about the most certain ones, where its text asks for the most uncertain.) The seed
matters to `--config.query.strategy=random` alone. With "drawn" it draws 330 other
digits, and 40 of them, balanced over the classes.
"""

from configs import base


def get_config(arg: str = ""):
    words = base.words(arg, "drawn")
    # The example's gamma is for pixels from 0 to 16, which are stored times 15.
    spreading = base.algorithm(
        "label_spreading.LabelSpreading", gamma=0.25, alpha=0.2, scale=17.0
    )
    config = base.run("active_digits", train=base.phase(spreading))
    config.data.update(name="digits_tutorial", split="first", num_labels=40)
    if "drawn" in words:
        config.name = "active_digits_drawn"
        config.data.update(name="digits", split="balanced", num_unlabeled=290)
        config.data.labeled_in_unlabeled = False
        config.train.algorithm.scale = 16.0
    config.train.update(
        steps=20,
        steps_per_call=5,
        log_every=5,
        eval_every=20,
        checkpoint_every=20,
    )
    config.query.update(strategy="entropy", size=5, rounds=5)
    return base.debug(config, 8, 8, 1, 10) if "debug" in words else config
