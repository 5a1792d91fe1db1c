"""Queries of the Nexmark benchmark on an auction site's events, each checked against DuckDB.

An online auction: persons register, open auctions and bid. `generator` makes such events from a seed, `queries` has the
pipelines, `oracle` the same queries in SQL over all events at once.
"""
