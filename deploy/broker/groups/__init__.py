"""Consumer groups by the classic protocol, and their committed offsets."""

from penstock.deploy.broker.groups.coordinator import OFFSETS_RETENTION_MS, Groups
from penstock.deploy.broker.groups.group import Group
from penstock.deploy.broker.groups.offset_requests import OffsetRequests
from penstock.deploy.broker.groups.offsets import Committed
from penstock.deploy.broker.groups.requests import GroupRequests

__all__ = ["OFFSETS_RETENTION_MS", "Committed", "Group", "GroupRequests", "Groups", "OffsetRequests"]
