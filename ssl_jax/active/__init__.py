"""Active learning: which images to ask about, and rounds of asking."""
