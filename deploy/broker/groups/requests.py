"""The requests about membership."""

import asyncio

from penstock.deploy.broker.groups.coordinator import Groups
from penstock.deploy.broker.groups.group import Group, State
from penstock.deploy.broker.groups.member import Join, Joined, Sync, Synced
from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, ErrorCode, Handler, Result

_SESSION_TIMEOUTS = (6.0, 1800.0)  # Kafka's group.min.session.timeout.ms and group.max.session.timeout.ms


class GroupRequests:
    """JoinGroup, SyncGroup, Heartbeat, LeaveGroup, DescribeGroups, ListGroups, DeleteGroups."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def handlers(self) -> dict[int, Handler]:
        return {
            ApiKey.JOIN_GROUP: self.join,
            ApiKey.SYNC_GROUP: self.sync,
            ApiKey.HEARTBEAT: self.heartbeat,
            ApiKey.LEAVE_GROUP: self.leave,
            ApiKey.DESCRIBE_GROUPS: self.describe,
            ApiKey.LIST_GROUPS: self.list,
            ApiKey.DELETE_GROUPS: self.delete,
        }

    def join(self, call: Call) -> Result:
        body, version = call.body, call.version
        session = body.session_timeout.total_seconds()
        error, group = ErrorCode.NONE, None
        if not body.group_id:
            error = ErrorCode.INVALID_GROUP_ID
        elif not _SESSION_TIMEOUTS[0] <= session <= _SESSION_TIMEOUTS[1]:
            error = ErrorCode.INVALID_SESSION_TIMEOUT
        elif body.member_id:
            group = self._groups.get(body.group_id)
            error = ErrorCode.UNKNOWN_MEMBER_ID if group is None else ErrorCode.NONE
        else:
            group = self._groups.get_or_create(body.group_id)
        if error or group is None:
            return _join_answer(Joined(error, body.member_id), version)
        rebalance = call.get("rebalance_timeout", body.session_timeout).total_seconds()
        join = Join(
            member_id=body.member_id,
            instance_id=call.get("group_instance_id", None),
            client=call.client,
            session_timeout=session,
            rebalance_timeout=rebalance,
            protocol_type=body.protocol_type,
            protocols=tuple((each.name, bytes(each.metadata)) for each in body.protocols),
            two_steps=version >= 4,
            can_skip=version >= 9,
        )
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        group.join(join, lambda joined: _resolve(waiting, _join_answer(joined, version)))
        self._groups.changed(group)
        return _result(waiting)

    def sync(self, call: Call) -> Result:
        body = call.body
        group = self._groups.get(body.group_id)
        if group is None:
            return _sync_answer(Synced(ErrorCode.UNKNOWN_MEMBER_ID))
        sync = Sync(
            member_id=body.member_id,
            instance_id=call.get("group_instance_id", None),
            generation=body.generation_id,
            assignments=tuple((each.member_id, bytes(each.assignment)) for each in body.assignments),
            protocol_type=call.get("protocol_type", None),
            protocol=call.get("protocol_name", None),
        )
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        group.sync(sync, lambda synced: _resolve(waiting, _sync_answer(synced)))
        self._groups.changed(group)
        return _result(waiting)

    def heartbeat(self, call: Call) -> Answer:
        body = call.body
        group = self._groups.get(body.group_id)
        if group is None:
            return {"error_code": ErrorCode.UNKNOWN_MEMBER_ID}
        instance = call.get("group_instance_id", None)
        return {"error_code": group.heartbeat(body.member_id, body.generation_id, instance, call.client)}

    def leave(self, call: Call) -> Answer:
        group = self._groups.get(call.body.group_id)

        def leave(member_id: str, instance_id: str | None) -> ErrorCode:
            return ErrorCode.UNKNOWN_MEMBER_ID if group is None else group.leave(member_id, instance_id)

        if call.version >= 3:
            members = [
                {
                    "member_id": each.member_id,
                    "group_instance_id": each.group_instance_id,
                    "error_code": leave(each.member_id, each.group_instance_id),
                }
                for each in call.body.members
            ]
            answer: Answer = {"error_code": ErrorCode.NONE, "members": members}
        else:
            answer = {"error_code": leave(call.body.member_id, None)}
        if group is not None:
            self._groups.changed(group)
        return answer

    def describe(self, call: Call) -> Answer:
        return {"groups": [self._describe(name, call.version) for name in call.body.groups]}

    def _describe(self, name: str, version: int) -> Answer:
        group = self._groups.get(name)
        if group is None:
            return {
                "error_code": ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else ErrorCode.NONE,
                "error_message": f"Group {name} not found.",
                "group_id": name,
                "group_state": "Dead",
                "protocol_type": "",
                "protocol_data": "",
                "members": (),
            }
        stable = group.state is State.STABLE
        return {
            "error_code": ErrorCode.NONE,
            "group_id": name,
            "group_state": group.state,
            "protocol_type": group.protocol_type or "",
            "protocol_data": group.protocol if stable else "",
            "members": [
                {
                    "member_id": member.id,
                    "group_instance_id": member.instance_id,
                    "client_id": member.client.id or "",
                    "client_host": member.client.host,
                    "member_metadata": member.subscription(group.protocol) if stable else b"",
                    "member_assignment": member.assignment if stable else b"",
                }
                for member in group.members.values()
            ],
        }

    def list(self, call: Call) -> Answer:
        states = {state.lower() for state in call.get("states_filter", ())}
        types = {kind.lower() for kind in call.get("types_filter", ())}

        def listed(group: Group) -> bool:
            return (not states or group.state.lower() in states) and (not types or "classic" in types)

        groups = [
            {
                "group_id": group.id,
                "protocol_type": group.protocol_type or "",
                "group_state": group.state,
                "group_type": "classic",
            }
            for group in self._groups
            if listed(group)
        ]
        return {"error_code": ErrorCode.NONE, "groups": groups}

    def delete(self, call: Call) -> Answer:
        return {"results": [{"group_id": name, "error_code": self._delete(name)} for name in call.body.groups_names]}

    def _delete(self, name: str) -> ErrorCode:
        group = self._groups.get(name)
        if group is None:
            return ErrorCode.GROUP_ID_NOT_FOUND
        if group.members:
            return ErrorCode.NON_EMPTY_GROUP
        try:
            self._groups.delete(group)
        except LogProblem:
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.NONE


def _resolve(waiting: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not waiting.done():  # its connection may be gone
        waiting.set_result(answer)


def _result(waiting: "asyncio.Future[Answer]") -> Result:
    """At once where it was answered at once: the connection goes on without a turn of the loop."""
    return waiting.result() if waiting.done() else waiting


def _join_answer(joined: Joined, version: int) -> Answer:
    return {
        "error_code": joined.error,
        "generation_id": joined.generation,
        "protocol_type": joined.protocol_type,
        "protocol_name": joined.protocol or (None if version >= 7 else ""),
        "leader": joined.leader,
        "skip_assignment": joined.skip_assignment,
        "member_id": joined.member_id,
        "members": [
            {"member_id": name, "group_instance_id": instance, "metadata": subscription}
            for name, instance, subscription in joined.members
        ],
    }


def _sync_answer(synced: Synced) -> Answer:
    return {
        "error_code": synced.error,
        "protocol_type": synced.protocol_type,
        "protocol_name": synced.protocol,
        "assignment": synced.assignment,
    }
