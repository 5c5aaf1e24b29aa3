"""Settings looked for on labels that are held out, never on test images: --mode=tune.

`tune.tune` is the walk: batch size, learning rate, then a search and its finals.
"""
