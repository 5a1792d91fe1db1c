"""The ways in which record batches are compressed."""

from typing import Literal

Compression = Literal["gzip", "snappy", "lz4", "zstd"]
"""By Kafka's names. lz4 costs least, zstd packs best."""
