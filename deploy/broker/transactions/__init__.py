"""Producer ids and transactions."""

from penstock.deploy.broker.transactions.coordinator import Transactions
from penstock.deploy.broker.transactions.requests import TransactionRequests

__all__ = ["TransactionRequests", "Transactions"]
