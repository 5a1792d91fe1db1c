"""All that a pipeline's author needs: declare, check, test."""

from penstock.agents.agent_stream import AgentBatch, AgentStream
from penstock.agents.block import Record
from penstock.agents.columns import Columns
from penstock.agents.errors import RecordError
from penstock.agents.policies import DeadLetter, Fail, Retry, Skip
from penstock.agents.topics import FOREVER, Topic
from penstock.pipelines.driver import TopologyDriver
from penstock.pipelines.global_table import GlobalTable
from penstock.pipelines.group import Group
from penstock.pipelines.pipeline import Pipeline
from penstock.pipelines.problems import Problem, TopologyError
from penstock.pipelines.rules import check
from penstock.pipelines.set_table import SetTable
from penstock.pipelines.stream import Aggregated, Stream
from penstock.pipelines.table import Table
from penstock.pipelines.topology import Topology
from penstock.tables.aggregates import Aggregator, Count, Max, Mean, Min, Sum
from penstock.tables.checkpoint import Delivery
from penstock.tables.errors import PenstockError
from penstock.tables.serdes import INT32, INT64, Serde, UnknownType, json, msgpack, nullable

__all__ = [
    "FOREVER",
    "INT32",
    "INT64",
    "AgentBatch",
    "AgentStream",
    "Aggregated",
    "Aggregator",
    "Columns",
    "Count",
    "DeadLetter",
    "Delivery",
    "Fail",
    "GlobalTable",
    "Group",
    "Max",
    "Mean",
    "Min",
    "PenstockError",
    "Pipeline",
    "Problem",
    "Record",
    "RecordError",
    "Retry",
    "Serde",
    "SetTable",
    "Skip",
    "Stream",
    "Sum",
    "Table",
    "Topic",
    "Topology",
    "TopologyDriver",
    "TopologyError",
    "UnknownType",
    "check",
    "json",
    "msgpack",
    "nullable",
]
