"""Where in the user's code a thing was declared."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the user's module: what every declaration error points at."""

    file: str
    line: int

    def __str__(self) -> str:
        path = Path(self.file)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}:{self.line}"


def caller() -> Location:
    """The nearest line outside Penstock on the current call stack."""
    frame = sys._getframe(1)
    # typing calls for `Topic[str, int](...)`
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(("penstock.", "typing.")):
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno)
