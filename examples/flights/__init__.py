"""The main example: a year of real flights from New York, five consumer groups, one verified answer.

`python -m examples.flights` runs it on Penstock's own broker, or on a Kafka, and compares the result with a batch
computation.
"""
