"""Results into tables, figures and a page; it never trains.

__main__       python -m ssl_jax.report
summary        a run in a few lines
tables         runs compared, with tests
formats        Markdown, LaTeX, CSV
measured       which numbers of a journal are of one quantity
figures/       functions from what was measured to a matplotlib Figure
page/          report.html
"""
