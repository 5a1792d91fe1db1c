"""The root of every error that Penstock raises on purpose."""


class PenstockError(Exception):
    """Something a user, an operator or the data did; the message says what, where and what to do."""
