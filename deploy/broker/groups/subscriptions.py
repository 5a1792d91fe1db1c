"""Which topics a group's members consume."""

import struct

from penstock.deploy.broker.groups.group import Group, State


def subscribed_topics(group: Group) -> set[str]:
    """The topics that a group's members consume, by their subscriptions (ConsumerProtocolSubscription: version, then
    an array of names); none where another protocol has them."""
    topics: set[str] = set()
    if group.state is State.EMPTY or group.protocol_type != "consumer":
        return topics
    for member in group.members.values():
        data = member.subscription(group.protocol or member.protocols[0][0])
        try:
            (count,) = struct.unpack_from(">i", data, 2)
            position = 6
            for _ in range(count):
                (length,) = struct.unpack_from(">h", data, position)
                topics.add(data[position + 2 : position + 2 + length].decode())
                position += 2 + length
        except (struct.error, UnicodeDecodeError):
            continue
    return topics
