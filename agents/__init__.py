"""The record path."""
