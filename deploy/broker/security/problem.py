"""What keeps a listener from being secured."""


class SecurityProblem(Exception):
    """An option, a certificate or a users file that cannot be used: what, where, and what to do."""
