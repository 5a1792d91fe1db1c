"""The main example: a year of real flights from New York, five consumer groups, one verified answer.

`python -m examples.flights` runs it on a real Kafka and checks the result against a batch computation.
"""
