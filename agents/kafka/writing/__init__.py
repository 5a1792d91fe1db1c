"""Writing: rows to record batches, batches to brokers in order and once, and transactions."""
