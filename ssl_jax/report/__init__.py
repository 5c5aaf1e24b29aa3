"""Results into tables and figures; it never trains.

__main__       python -m ssl_jax.report
summary        a run in a few lines
tables         runs compared, with tests
formats        Markdown, LaTeX, CSV
figures/       functions from what was measured to a matplotlib Figure
"""
