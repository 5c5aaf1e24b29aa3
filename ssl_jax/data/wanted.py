"""What a run wants of its data: the section `data` of a config."""

import dataclasses
from typing import Annotated

from ssl_jax.core.ranges import Count, Positive, Range, Whole


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which data set, how it is split, and where its images lie.

    Whatever takes a Wanted takes any object with these attributes. What is wrong with
    one by itself, `loading.mistakes` says.
    """

    # "digits" and "digits_tutorial" (embedded), "stl10", "folder" (your own images),
    # any image classification set of TensorFlow Datasets, with or without config and
    # version ("imagenette/160px:1.0.0"); or for a method on graphs "cora", "citeseer"
    # or "pubmed"
    name: str = "digits"
    dir: str = ""  # where it is prepared; "": TFDS_DATA_DIR or tfds's default
    unlabeled: str = "unlabeled"  # a folder's images without label: in it, or not
    # whether a folder's folders are its classes; False: no image below it has a label,
    # whatever folders they lie in, but by `labels`
    class_folders: bool = True
    strict: bool = False  # images that cannot be read are refused, not skipped
    labels: str = ""  # a CSV file: image and label, as --mode=query writes it
    # "accept": a run goes on though images came or went since it began; what `labels`
    # says of one that went is skipped
    changed: str = ""
    neighbors: Count = 5  # of each node, where a method makes a graph of images
    # height, width, channels, classes of digits
    digits_as: tuple[Count, Count, Count, Count] = (8, 8, 1, 10)
    extra: bool = False  # SVHN's 531,131 easier images join the pool
    # "balanced"; "first" of the pool, as tutorials slice their arrays; "two_phase":
    # that tutorial's index lists; or "planetoid": Cora's own
    split: str = "balanced"
    num_labels: Whole = 40  # labeled images in all, over all classes; 0: every one
    num_validation: Whole = 0  # more labeled images, held out to choose on
    num_unlabeled: Whole = 0  # images in the unlabeled set; 0: all there are
    # Which classes are rarer: "exponential", each by as much than the one before, or
    # "step", the second half of them; "": as the split has them. num_labels and
    # num_unlabeled are then as if all were as frequent as the most frequent, and the
    # latter of those without a label
    imbalance: str = ""
    # how many times as frequent the first class is as the last, among the labeled
    # images and among the others; below 1: the last is the most frequent
    gamma_labeled: Positive = 1.0
    gamma_unlabeled: Positive = 1.0
    labeled_in_unlabeled: bool = True  # the unlabeled set has the labeled ones too
    # STL-10's predefined labeled sets, 0 to 9; -1: by seed
    fold: Annotated[int, Range(-1, 9)] = -1
    white: Whole = 0  # value that is white in files of more than 8 bits; 0: 65,535
    max_pixels: Whole = 89_478_485  # a larger file is not read: an attack? 0: any is
    image_size: Whole = 0  # pixels a side that images are brought to; 0: as stored
    # of the images: "device", "host", "stream" (decoded as they are needed), or by size
    placement: str = "auto"
    workers: Whole = 0  # threads that decode a stream; 0: one for each core
