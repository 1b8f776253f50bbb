"""The error that these commands show to their user."""


class Failure(Exception):
    """What went wrong and what to do about it: printed as it is, without a traceback."""
