"""Steps that keep something for each key: aggregates, rows from topics, what was seen, functions with timers."""
