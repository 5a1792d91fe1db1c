"""Java's properties files, as far as Kafka's tools use them."""

import re
from collections.abc import Mapping

_SETTING = re.compile(r"(?P<name>(?:[^\\:= \t\f]|\\.)*)[ \t\f]*[:=]?[ \t\f]*(?P<value>.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LETTERS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def read_properties(text: str) -> dict[str, str]:
    """Names and values. Comments, escapes and continued lines are Java's (java.util.Properties); the text is UTF-8.

    >>> read_properties("# how to connect\\nsecurity.protocol = SSL\\n")
    {'security.protocol': 'SSL'}
    """
    found: dict[str, str] = {}
    logical = ""
    for line in re.split(r"\r\n|\r|\n", text):
        stripped = line.lstrip(" \t\f")
        if not logical and (not stripped or stripped[0] in "#!"):
            continue
        logical += stripped
        if (len(logical) - len(logical.rstrip("\\"))) % 2:  # an odd backslash at the end: it goes on in the next line
            logical = logical[:-1]
            continue
        _put(found, logical)
        logical = ""
    if logical:
        _put(found, logical)
    return found


def write_properties(settings: Mapping[str, str]) -> str:
    """A text that `read_properties` gives the same from."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in settings.items())


def _put(found: dict[str, str], logical: str) -> None:
    setting = _SETTING.fullmatch(logical)
    assert setting is not None  # every part of it may be empty
    found[_unescaped(setting["name"])] = _unescaped(setting["value"].rstrip(" \t\f"))


def _unescaped(text: str) -> str:
    def letter(escape: re.Match[str]) -> str:
        body = escape[1]
        return chr(int(body[1:], 16)) if len(body) == 5 else _LETTERS.get(body, body)

    return _ESCAPE.sub(letter, text)


def _escaped(value: str) -> str:
    letters = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}
    escaped = "".join(letters.get(letter, letter) for letter in value)
    return re.sub(r"^ | $", r"\\u0020", escaped)
