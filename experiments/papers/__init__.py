"""The tables of papers, at their lengths: lists of runs for a GPU or a SLURM array.

published.json has what was published, for `python -m ssl_jax.report --published`.
"""
