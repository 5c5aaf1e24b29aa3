"""The page of one or several workdirs, as text."""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax import __version__
from ssl_jax.errors import UserError
from ssl_jax.report import tables
from ssl_jax.report.page import found, of_classifier, of_run, of_several
from ssl_jax.report.page.blocks import Folded, Note, Section

_HERE = Path(__file__).parent


def of_workdirs(paths: Sequence[str | Path], baseline: str = "") -> str:
    """The HTML of a page: of one run all that there is, of several how they compare,
    and each behind its name.

    Args:
      baseline: as in `of_several.sections`.

    Raises:
      UserError: a folder is no run's workdir, has nothing to show, or the runs cannot
        be compared.
    """
    runs = [found.run(path) for path in paths]
    if all(run.empty for run in runs):
        raise UserError(
            f"the run in {runs[0].path} has logged nothing yet: there is nothing to "
            "show; train it first."
        )
    if len(runs) == 1:
        title, under = of_run.heading(runs[0])
        return _html(title, under, of_run.sections(runs[0]))
    several = of_several.sections(runs, baseline)
    names = dict.fromkeys(run.config["name"] for run in runs)
    shown = [run for run in runs if not run.empty]
    pictured = [run for run in shown if of_classifier.has_pictures(run)]
    firsts = {_column(run): run.path for run in reversed(pictured)}
    each = [
        Folded(
            *of_run.heading(run),
            of_run.sections(run, pictures=run.path in firsts.values()),
        )
        for run in shown
    ]
    if len(firsts) < len(pictured):
        each.insert(0, Note("Test images are shown of each method's first run alone."))
    under = f"{len(runs)} runs: {', '.join(names)}"
    return _html("Runs compared", under, [*several, Section("Each run", each)])


def _column(run):
    """What runs share that differ in their seed: `tables.group`'s, for runs that have
    no result yet as well."""
    return *tables.method_and_data(run.config), run.config["data"]["num_labels"]


def _html(title: str, under: str, sections: Sequence[Section]) -> str:
    import jinja2  # not for every start of ssl_jax.report

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = jinja2.utils.markupsafe.Markup((_HERE / "page.css").read_text())
    template = environment.get_template("page.html")
    return template.render(
        title=title, under=under, sections=sections, css=css, version=__version__
    )
