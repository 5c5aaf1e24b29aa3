"""FlexMatch on STL-10 with 1,000 labels in FixMatch's settings.

Published error (arXiv:2110.08263, table 1; median of 20): 6.15.
"""

from configs import base, fixmatch_stl10


def get_config(arg: str = ""):
    config = fixmatch_stl10.get_config(arg)
    return base.instead(config, "flexmatch.FlexMatch")
