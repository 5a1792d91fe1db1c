"""The embedded broker beside Apache Kafka, on this machine, under the same clients: start, rates, latency, memory,
compaction.

`python -m benchmarks.brokers` runs all of it, the brokers in turns; `--part` chooses.
"""
