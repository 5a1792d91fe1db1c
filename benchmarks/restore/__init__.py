"""Restoring a table of a million keys from its changelog: Penstock beside Kafka Streams, on one real Kafka."""
