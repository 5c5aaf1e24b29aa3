"""What came and went since a run began, worked by hand."""

from ssl_jax.workdir import inventory
from ssl_jax.workdir.inventory import Change, Inventory

BEFORE = Inventory(
    name="folder",
    digest="a",
    class_names=("cat", "dog"),
    shape=(8, 8, 1),
    labels={"cat/1.png": "cat", "dog/\udce9.png": "dog", "u/1.png": "", "u/2.png": ""},
    num_test=2,
)


def after(**other):
    return BEFORE._replace(digest="b", **other)


def test_what_came_and_went_is_counted_and_the_first_named():
    assert inventory.changes(BEFORE, BEFORE) == []
    labels = {"cat/1.png": "dog", "u/3.png": "", "u/4.png": "", "u/1.png": ""}
    assert inventory.changes(BEFORE, after(labels=labels, num_test=3)) == [
        Change("2 images came ('u/3.png' first)"),
        Change(r"2 images went or cannot be read now ('dog/\udce9.png' first)"),
        Change("1 images got another label ('cat/1.png')"),
        Change("3 are to test on, and were 2"),
    ]
    (other,) = inventory.changes(BEFORE, after())
    assert other == Change("the images to test on, or their classes, are others")


def test_what_the_network_does_not_fit_is_grave():
    other = after(class_names=("cat", "dog", "owl"), shape=(8, 8, 3))
    assert inventory.changes(BEFORE, other) == [
        Change("the classes are cat, dog, owl, and were cat, dog", grave=True),
        Change("images are 8x8x3, and were 8x8x1", grave=True),
    ]
    (unnamed,) = inventory.changes(BEFORE, after(labels={}))
    assert unnamed.grave


def test_other_images_with_a_label_are_grave_where_a_seed_draws_from_them():
    """With one that came another validates; what has no label plays no part."""
    more = BEFORE.labels | {"u/3.png": ""}
    (came,) = inventory.changes(BEFORE, after(labels=more), drawn=True)
    assert not came.grave
    less = {name: label for name, label in more.items() if label != "cat"}
    for labels in (more | {"cat/2.png": "cat"}, less, more | {"cat/1.png": "dog"}):
        found = inventory.changes(BEFORE, after(labels=labels), drawn=True)
        assert [c for c in found if c.grave and "may have been learned from" in c.what]
        assert not any(c.grave for c in inventory.changes(BEFORE, after(labels=labels)))


def test_it_is_read_as_it_was_written(tmp_path):
    inventory.write(tmp_path / "inventory.json", BEFORE)
    assert inventory.read(tmp_path / "inventory.json") == BEFORE
