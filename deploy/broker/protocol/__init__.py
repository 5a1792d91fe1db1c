"""The Kafka protocol: which requests are served, how they are decoded, how answers are encoded, what errors mean."""

from penstock.deploy.broker.protocol.call import Answer, Call, Client, CloseConnection, Handler, Result, milliseconds
from penstock.deploy.broker.protocol.codec import Codec, codec
from penstock.deploy.broker.protocol.errors import ErrorCode
from penstock.deploy.broker.protocol.served import SERVED, ApiKey

__all__ = [
    "SERVED",
    "Answer",
    "ApiKey",
    "Call",
    "Client",
    "CloseConnection",
    "Codec",
    "ErrorCode",
    "Handler",
    "Result",
    "codec",
    "milliseconds",
]
