"""A reader takes only what was released to them, and only as its author committed to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cbmdhi.command.v1.state_pb2 import RecordVersion, StoredContent
from cbmdhi.protocol import envelope, hpke, released
from cbmdhi.protocol.envelope import Binding

KEY, WRITER_KEY = bytes(range(32)), bytes(32)
CONTENT = b'{"resourceType":"Observation"}'


class Release:
    """A record, sealed and released to a reader by a member that does as it should."""

    def __init__(self, committed_to: bytes = CONTENT) -> None:
        salt = envelope.new_salt()
        sealed = envelope.seal(CONTENT, salt, Binding("cb1patient", "record", 1), "key", WRITER_KEY, KEY)
        private, public = hpke.generate()
        self.record = RecordVersion(
            patient="cb1patient",
            record_id="record",
            version=1,
            content_commitment=envelope.commitment(salt, committed_to),
            content=StoredContent(cid=sealed.cid),
        )
        self.blocks = [block for _, block in sealed.blocks]
        self.data_key = hpke.seal(public, KEY, hpke.DATA_KEY, "cb1reader", "command", "record", "1")
        self.reader = released.Recipient("cb1reader", private, "command")

    def open(self) -> bytes:
        return released.open_released(self.record, self.blocks, self.data_key, self.reader)


def test_what_was_released_opens_for_its_reader() -> None:
    assert Release().open() == CONTENT


def test_what_the_author_did_not_commit_to_is_not_taken() -> None:
    with pytest.raises(released.NotAsCommitted, match="committed"):
        Release(committed_to=b"something else").open()


def test_a_release_for_another_access_or_reader_does_not_open() -> None:
    for change in (
        {"command_id": "another"},
        {"address": "cb1another"},
        {"hpke_private": hpke.generate()[0]},
    ):
        release = Release()
        release.reader = replace(release.reader, **change)  # type: ignore[arg-type]
        with pytest.raises(released.NotAsCommitted):
            release.open()


def test_blocks_that_are_not_the_ledgers_do_not_open() -> None:
    release, other = Release(), Release()
    release.blocks = other.blocks
    with pytest.raises(released.NotAsCommitted):
        release.open()
    release.blocks = []
    with pytest.raises(released.NotAsCommitted):
        release.open()
