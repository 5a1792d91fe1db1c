"""Producer ids and transactions."""

from penstock.deploy.broker.transactions.coordinator import EXPIRATION_MS, Transactions
from penstock.deploy.broker.transactions.requests import TransactionRequests

__all__ = ["EXPIRATION_MS", "TransactionRequests", "Transactions"]
