"""Joins of streams with streams, and with tables as they were: their steps as frozen values, and at work."""
