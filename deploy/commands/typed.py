"""The types of a pipeline's topics, for the commands' `--as`."""

from dataclasses import replace
from typing import Any

import msgspec

from penstock.agents.topics import Topic
from penstock.deploy.modules import load_pipeline
from penstock.tables.errors import PenstockError
from penstock.tables.serdes import Serde, UnknownType, fields_of, json
from penstock.tables.shapes import is_faust, is_pydantic, unwrap
from penstock.tables.specs import changelog_topic


def topic_of(module: str, name: str) -> Topic[Any, Any]:
    """A pipeline's topic by its name on the broker: declared, repartition or changelog.

    Raises:
        PenstockError: the pipeline has none of that name; the text has those it has.
    """
    topology = load_pipeline(module).topology
    known: dict[str, Topic[Any, Any]] = dict(topology.topics)
    for group in topology.groups:
        for inlet in (inlet for stage in group.stages for inlet in stage.inlets):
            known.setdefault(inlet.topic, Topic(inlet.topic, key=inlet.key, value=inlet.value))
        for table, _ in group.tables:
            if table.source is not None:
                continue
            changelog = changelog_topic(group.app_id, table.name)
            row = replace(table.row, nullable=True)  # a row that is gone
            known[changelog] = Topic(changelog, key=table.key, value=row)
    if name not in known:
        raise PenstockError(f"pipeline {topology.name!r} has no topic {name!r}; it has {', '.join(sorted(known))}")
    return known[name]


_shown = json(object).encode


def plain(value: Any) -> Any:
    """A decoded value as JSON has it."""
    return msgspec.json.decode(_shown(value))


class Reader:
    """Reads values that are not in a topic's own encoding: a field of a row, a line of text.

    Args:
        serde: the topic's codec of keys or values.
    """

    def __init__(self, serde: Serde[Any]) -> None:
        self.serde = serde
        inner, _ = unwrap(serde.type)
        self._is_text, self._inner = inner is str, inner
        self._own = is_faust(inner) or is_pydantic(inner)
        self._fields = fields_of(serde.type) or {}
        try:
            self._json: Any = json(serde.type).decode
        except UnknownType:
            self._json = None

    def json(self, text: bytes) -> Any:
        """A value from JSON text; a codec whose type has no JSON form takes the bytes as they are."""
        return self.serde.decode(text) if self._json is None or self._inner is bytes else self._json(text)

    def line(self, text: bytes) -> Any:
        """A value from a line: as the topic itself would be written, where that is text."""
        return self.json(text) if self.serde.name.startswith(("msgpack", "int32", "int64")) else self.serde.decode(text)

    def cell(self, value: Any) -> Any:
        """A value from a field of a row: `"4"` of a CSV file is the number 4 where the type says so."""
        if isinstance(value, str) and self._is_text:
            return value
        if self._is_text and isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # a number that serves as a text key
        if self._inner is bytes:
            return value if isinstance(value, bytes) else _shown(value)
        return self._converted(value)

    def row(self, row: dict[str, Any]) -> Any:
        """A value from a row of text cells. An empty cell is an empty text where the field is one, else null."""
        kept = {
            name: None if value == "" and unwrap(self._fields.get(name, Any))[0] is not str else value
            for name, value in row.items()
        }
        return self._converted(kept)

    def _converted(self, value: Any) -> Any:
        if self._own or self._json is None:
            return self.json(_shown(value))
        return msgspec.convert(value, self.serde.type, strict=False)
