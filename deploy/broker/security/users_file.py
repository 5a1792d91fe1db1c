"""Where the users are kept, for those who do not read them."""

from pathlib import Path


def users_file(data: Path) -> Path:
    """Where a data folder keeps its users."""
    return data / "users.json"
