"""What could not be sent, or may have been: kept as signed, found after a restart, sent as it is."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import cast

import pytest

from cbmdhi.client.commands import submit
from cbmdhi.client.connection import Connection
from cbmdhi.client.outbox import Outbox, Resends
from cbmdhi.client.records import NewRecord, Records
from cbmdhi.client.registration import Registration
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse, NotCommitted, NotSent, UnknownOutcome, Unproven, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import command
from tests.unit.cbmdhi.client.test_receipts import ProvingGateway

_AWAY = MeshError(code_pb2.CODE_UNAVAILABLE, "nobody there", outcome=code_pb2.OUTCOME_NOT_DONE)


def resends(gateway: ProvingGateway, folder: Path) -> Resends:
    return Resends(gateway.connection, Registration(gateway.connection), Outbox(folder))


async def unproven(gateway: ProvingGateway) -> Unproven:
    """A consent was taken away, and the gateway carried nothing."""
    gateway.carries = False
    with pytest.raises(Unproven) as caught:
        await submit(gateway.connection, pb.RevokeConsent(consent_id="c", patient=gateway.wallet.address))
    gateway.carries = True
    return caught.value


async def test_an_errors_command_is_sent_again_as_it_is_by_one_call(tmp_path: Path) -> None:
    gateway = ProvingGateway()
    error = await unproven(gateway)
    [receipt] = await resends(gateway, tmp_path)(error)
    assert receipt.code == code_pb2.CODE_OK
    assert gateway.sent[0] == gateway.sent[1]


async def test_what_was_kept_is_found_after_a_restart_and_goes_when_it_is_proven(tmp_path: Path) -> None:
    gateway = ProvingGateway()
    [kept] = Outbox(tmp_path).keep(await unproven(gateway))
    assert stat.S_IMODE(kept.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.file.parent.stat().st_mode) == 0o700

    [found] = Outbox(tmp_path).list()
    assert (found.command_id, found.request) == (kept.command_id, gateway.sent[0])
    gateway.carries = False
    with pytest.raises(Unproven):
        await resends(gateway, tmp_path)(found)
    assert [one.command_id for one in Outbox(tmp_path).list()] == [kept.command_id]
    gateway.carries = True
    [receipt] = await resends(gateway, tmp_path)(kept.command_id[:20])
    assert receipt.command_id == kept.command_id
    assert Outbox(tmp_path).list() == []
    with pytest.raises(Misuse, match="there are: none"):
        await resends(gateway, tmp_path)(kept.command_id)


async def test_what_the_channel_refused_for_good_is_not_kept_for_another_time(tmp_path: Path) -> None:
    gateway = ProvingGateway()
    [kept] = Outbox(tmp_path).keep(await unproven(gateway))
    gateway.decides = lambda entry: setattr(entry, "code", code_pb2.CODE_CONFLICT)
    with pytest.raises(NotCommitted):
        await resends(gateway, tmp_path)(kept)
    assert Outbox(tmp_path).list() == []


async def test_a_record_with_its_content_is_kept_and_sent_again(tmp_path: Path) -> None:
    gateway = ProvingGateway()
    records = Records(cast(Connection, gateway))
    prepared = records.prepare(NewRecord(gateway.wallet.address, b'{"resourceType":"Observation"}'))
    [kept] = Outbox(tmp_path).keep(to_be_sent(_AWAY, [prepared.item]))
    assert isinstance(kept.request, gateway_pb2.SubmitRequest)
    assert kept.request.contents[0].content == prepared.record.content
    gateway.decides = lambda entry: setattr(entry, "code", code_pb2.CODE_FORBIDDEN)
    with pytest.raises(NotCommitted, match="FORBIDDEN"):
        await resends(gateway, tmp_path)(prepared.item)
    assert gateway.sent[-1].group == prepared.item.group


async def test_of_many_that_are_sent_again_what_is_still_open_comes_back(tmp_path: Path) -> None:
    gateway = ProvingGateway()
    errors = [await unproven(gateway) for _ in range(3)]
    again = [item for error in errors for item in error.again]
    assert len(await resends(gateway, tmp_path)(again)) == 3
    more = [item for error in [await unproven(gateway) for _ in range(3)] for item in error.again]
    gateway.carries = False
    with pytest.raises(UnknownOutcome) as caught:
        await resends(gateway, tmp_path)(more)
    assert sorted(one.SerializeToString() for one in caught.value.again) == sorted(
        one.SerializeToString() for one in more
    )


async def test_a_reading_is_asked_for_anew_and_not_kept(tmp_path: Path) -> None:
    gateway = ProvingGateway()
    access = pb.Access(patient=gateway.wallet.address, record_id="r", version=1)
    channel = gateway.wallet.consortium.signed_channel
    error = NotSent(_AWAY, [gateway.wallet.sign_command(command.make(access, channel=channel))])
    assert Outbox(tmp_path).keep(error) == []
    with pytest.raises(Misuse, match="asked for anew"):
        await resends(gateway, tmp_path)(error)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kind": "no.such", "request": ""}'])
async def test_a_file_that_keeps_nothing_signed_is_told_in_a_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(content)
    with pytest.raises(Misuse, match="is not what is kept of something signed"):
        Outbox(tmp_path).find(str(file))


async def test_a_file_that_cannot_be_read_hides_no_other_and_rights_are_ours(tmp_path: Path) -> None:
    error = await unproven(ProvingGateway())
    [kept] = Outbox(tmp_path).keep(error)
    (kept.file.parent / "00000000-0000-7000-8000-000000000000.json").write_text("")
    left_open = kept.file.with_suffix(".new")
    left_open.write_text("")
    left_open.chmod(0o644)

    [again] = Outbox(tmp_path).keep(error)
    assert stat.S_IMODE(again.file.stat().st_mode) == 0o600
    assert [one.command_id for one in Outbox(tmp_path).list()] == [kept.command_id]


async def test_what_another_wallet_signed_is_set_aside_and_neither_sent_nor_deleted(tmp_path: Path) -> None:
    mine, other = ProvingGateway(), ProvingGateway()
    [planted] = Outbox(tmp_path).keep(await unproven(other))
    before, sent = planted.file.read_bytes(), len(mine.sent)

    with pytest.raises(Misuse, match="not of what this wallet signed"):
        await resends(mine, tmp_path)(planted)
    assert len(mine.sent) == sent
    aside = planted.file.with_suffix(".set-aside")
    assert aside.read_bytes() == before
    assert list(planted.file.parent.iterdir()) == [aside]

    [again] = Outbox(tmp_path).keep(await unproven(other))
    assert Outbox(tmp_path, mine.wallet.address).list() == []
    assert again.file.with_suffix(".set-aside").exists()


async def test_a_file_that_is_named_for_another_command_is_set_aside_and_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = ProvingGateway()
    outbox = Outbox(tmp_path, gateway.wallet.address)
    [one] = outbox.keep(await unproven(gateway))
    [other] = outbox.keep(await unproven(gateway))
    # Whoever sends `one` again would send the other's, and delete that under a name that says nothing of it.
    one.file.write_bytes(other.file.read_bytes())

    assert [kept.command_id for kept in outbox.list()] == [other.command_id]
    assert "named otherwise than the command in it" in caplog.text
    assert one.file.with_suffix(".set-aside").exists()
    with pytest.raises(Misuse, match="nothing was kept under"):
        outbox.find(one.command_id)
