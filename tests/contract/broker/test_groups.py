"""Consumer groups: who reads what, who is told what, what stays committed."""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.contract.broker.client import Client, Member, Record


def _settle(*members: Member) -> list[set[int]]:
    """The partitions of each, once both have two of the four: at once, for each has to poll for the other to get on."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda member: member.assigned(2), members))


def _await_state(client: Client, group: str, *wanted: tuple[str, int]) -> None:
    """kafka-python waits a second for the answer to its leaving, and goes on without it."""
    deadline = time.monotonic() + 60
    while (state := client.state(group)) not in wanted:
        assert time.monotonic() < deadline, state


def test_a_member_reads_everything_and_commits(client: Client, name: str) -> None:
    client.create(name, 2)
    client.produce(name, [Record(b"%d" % n, partition=n % 2) for n in range(20)])
    member = client.join(f"{name}-g", name)
    assert member.assigned(2) == {0, 1}
    assert {each.value for each in member.read(20)} == {b"%d" % n for n in range(20)}
    member.commit({0: 10, 1: 7})
    _await_state(client, f"{name}-g", ("Stable", 1))
    assert f"{name}-g" in client.groups()
    member.close()
    _await_state(client, f"{name}-g", ("Empty", 0))
    assert client.committed(f"{name}-g", name) == {0: 10, 1: 7}

    again = client.join(f"{name}-g", name)
    again.assigned(2)
    assert {each.value for each in again.read(3)} == {b"15", b"17", b"19"}
    again.close()


def test_two_members_share_and_take_over(client: Client, name: str) -> None:
    client.create(name, 4)
    first = client.join(f"{name}-g", name)
    assert first.assigned(4) == {0, 1, 2, 3}
    second = client.join(f"{name}-g", name)
    mine, theirs = _settle(first, second)
    assert mine | theirs == {0, 1, 2, 3}
    _await_state(client, f"{name}-g", ("Stable", 2))
    first.close()
    assert second.assigned(4) == {0, 1, 2, 3}
    second.close()


def test_a_static_member_returns_to_its_place(client: Client, name: str) -> None:
    client.create(name, 4)
    first, second = (client.join(f"{name}-g", name, instance=f"i{n}") for n in (1, 2))
    mine, theirs = _settle(first, second)
    second.close()  # a static member does not leave: its partitions wait for it
    again = client.join(f"{name}-g", name, instance="i2")
    assert again.assigned(2) == theirs
    assert first.assigned(2) == mine
    assert client.state(f"{name}-g")[1] == 2
    again.close()
    first.close()
