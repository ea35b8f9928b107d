from __future__ import annotations

import pytest

from neutronflow.domain.messages.run import BadMessage
from neutronflow.workflow.listener.heartbeats import Heartbeat, Presence, read_heartbeat
from tests.workflow.hostile import BODIES


def test_a_heartbeat_of_a_manager_and_of_a_real_adara_process_are_read() -> None:
    ours = read_heartbeat(b'{"src_name": "workflowmgr", "status": "0", "pid": "17"}')
    assert ours == Heartbeat("workflowmgr", "17", "", "0")
    adara = read_heartbeat(
        b'{"msg_type": "1073741824", "src_id": "STC_18852", "dest_id": "", "timestamp": "x", "status": 0}'
    )
    assert adara == Heartbeat("STC_18852", "", "", "0")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_no_heartbeat_is_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(BadMessage, match=r"The message cannot be understood: .+"):
        read_heartbeat(body)


def test_pages_are_told_of_the_new_and_the_changed_at_once_and_of_the_others_now_and_then() -> None:
    presence = Presence(announce_every_s=1000)
    first = Heartbeat("autoreducer1", "1", "postprocessing", "0")
    assert presence.worth_telling([first])
    assert not presence.worth_telling([first])
    assert presence.worth_telling([Heartbeat("autoreducer1", "1", "postprocessing", "1")])
    assert Presence(announce_every_s=0).worth_telling([first])


def test_only_the_newest_heartbeat_of_each_process_is_stored() -> None:
    presence = Presence(announce_every_s=5)
    for pid in ("1", "2"):
        assert presence.note(Heartbeat("b", pid))
    presence.note(Heartbeat("a"))
    assert presence.take() == [Heartbeat("a"), Heartbeat("b", "2")]
    assert presence.take() == []
