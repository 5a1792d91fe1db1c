"""All that a pipeline's author needs: declare, check, test."""

from penstock.agents.agent_stream import AgentBatch, AgentStream
from penstock.agents.block import Record
from penstock.agents.columns import Columns
from penstock.agents.event_time.clocks import StreamTime, Watermark
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.policies import DeadLetter, Fail, Retry, Skip
from penstock.agents.keyed.process_context import ProcessContext
from penstock.agents.topics import FOREVER, Topic
from penstock.pipelines.driver import TopologyDriver
from penstock.pipelines.global_table import GlobalTable
from penstock.pipelines.group import Group
from penstock.pipelines.grouped_table import GroupedTable
from penstock.pipelines.joined import JoinResults
from penstock.pipelines.pipeline import Pipeline
from penstock.pipelines.problems import Problem, TopologyError
from penstock.pipelines.processed import Processed
from penstock.pipelines.rules import check
from penstock.pipelines.set_table import SetTable
from penstock.pipelines.stream import Aggregated, Stream
from penstock.pipelines.table import Table
from penstock.pipelines.topology import Topology
from penstock.pipelines.windows import SessionStream, WindowedStream, WindowResults
from penstock.tables.aggregates import Aggregator, Count, Max, Mean, Min, Sum
from penstock.tables.checkpoint import Delivery
from penstock.tables.collected import Collect, Custom, First, Last, TopK
from penstock.tables.errors import PenstockError
from penstock.tables.join_window import JoinWindow
from penstock.tables.serdes import INT32, INT64, Serde, UnknownType, json, msgpack, nullable
from penstock.tables.sketches import ApproxDistinct, ApproxQuantile
from penstock.tables.windowed import Windowed
from penstock.tables.windows import CountWindow, Every, EveryUpdate, Hopping, OnClose, Session, Sliding, Tumbling

__all__ = [
    "FOREVER",
    "INT32",
    "INT64",
    "AgentBatch",
    "AgentStream",
    "Aggregated",
    "Aggregator",
    "ApproxDistinct",
    "ApproxQuantile",
    "Collect",
    "Columns",
    "Count",
    "CountWindow",
    "Custom",
    "DeadLetter",
    "Delivery",
    "Every",
    "EveryUpdate",
    "Fail",
    "First",
    "GlobalTable",
    "Group",
    "GroupedTable",
    "Hopping",
    "JoinResults",
    "JoinWindow",
    "Last",
    "Max",
    "Mean",
    "Min",
    "OnClose",
    "PenstockError",
    "Pipeline",
    "Problem",
    "ProcessContext",
    "Processed",
    "Record",
    "RecordError",
    "Retry",
    "Serde",
    "Session",
    "SessionStream",
    "SetTable",
    "Skip",
    "Sliding",
    "Stream",
    "StreamTime",
    "Sum",
    "Table",
    "TopK",
    "Topic",
    "Topology",
    "TopologyDriver",
    "TopologyError",
    "Tumbling",
    "UnknownType",
    "Watermark",
    "WindowResults",
    "Windowed",
    "WindowedStream",
    "check",
    "json",
    "msgpack",
    "nullable",
]
