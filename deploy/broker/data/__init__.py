"""Records in and out: produce and fetch."""

from penstock.deploy.broker.data.fetch import FetchRequests
from penstock.deploy.broker.data.produce import ProduceRequests

__all__ = ["FetchRequests", "ProduceRequests"]
