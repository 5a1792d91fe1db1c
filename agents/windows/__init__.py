"""Windowed aggregates: their steps as frozen values, and the kinds of windows at work."""
