"""Augmentations: (key, image_HWC) -> image_HWC, one image each, vmapped at the edge."""
