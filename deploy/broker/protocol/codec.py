"""The boundary to kio, whose schemas are generated from Kafka's own: nothing else imports it.

kio decodes in Rust. Its encoders are slower than Kafka's by reflection, so ours are compiled from the same schemas
(`encoders`). A version's module takes 10 ms to import, all of them two seconds, so each is loaded at its first use.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from penstock.deploy.broker.protocol.encoders import Encoder, compile_encoder
from penstock.deploy.broker.protocol.lengths import Walk, walker


@contextmanager
def _without_hypothesis() -> Iterator[None]:
    """kio registers test strategies with hypothesis where it is installed: 0.2 s of a start that should take 0.4."""
    if "hypothesis" in sys.modules:
        yield
        return
    sys.modules["hypothesis"] = None  # type: ignore[assignment] # which makes its import an ImportError
    try:
        yield
    finally:
        del sys.modules["hypothesis"]


with _without_hypothesis():
    from kio.index import load_request_schema, load_response_schema

    try:  # the same without kio.serial around it, whose encoders we have no use for: 40 ms of a start
        from kio._kio_native import entity_reader
    except ImportError:
        from kio.serial import entity_reader


@dataclass(frozen=True, slots=True)
class Codec:
    """One version of one request and of its answer."""

    read: Callable[[memoryview, int], Any]
    """The request's decoder: of a read-only memoryview and a position."""
    encode: Encoder
    tagged_request: bool
    """Whether the request's header ends with tagged fields."""
    tagged_response: bool


def _checked(walk: Walk, decode: Any) -> Callable[[memoryview, int], Any]:
    """The decoder, which must not be trusted with lengths: see `lengths`."""

    def read(data: memoryview, position: int) -> Any:
        walk(data, position)
        return decode(data, position)

    return read


_codecs: dict[tuple[int, int], Codec] = {}


def codec(api_key: int, version: int) -> Codec:
    """The codec of a version that kio has. Every one in `SERVED` is."""
    known = _codecs.get((api_key, version))
    if known is not None:
        return known
    request, response = load_request_schema(api_key, version), load_response_schema(api_key, version)
    fresh = Codec(
        read=_checked(walker(request), entity_reader(request)),
        encode=compile_encoder(response),
        tagged_request=request.__header_schema__.__version__ >= 2,
        tagged_response=response.__header_schema__.__version__ >= 1,
    )
    _codecs[api_key, version] = fresh
    return fresh
