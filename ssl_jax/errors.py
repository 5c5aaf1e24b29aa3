"""A mistake of the user's: what it is, what rule it breaks, and what to do."""


class UserError(ValueError):
    """A mistake that the user can mend: launch.py prints it and exits with status 2."""
