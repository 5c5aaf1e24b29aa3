"""What the figures share: colours that colour-blind readers tell apart, and series."""

# Okabe and Ito: told apart by colour-blind readers, and on a grey print.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = "ox^+sDv*<>"


def series(rows: list[dict], key: str) -> tuple[list[int], list]:
    """(steps, values) of the journal's rows that have `key`."""
    points = [(row["step"], row[key]) for row in rows if key in row]
    return [p[0] for p in points], [p[1] for p in points]
