"""What a transaction wrote is read key by key, to its end."""

from __future__ import annotations

from cbmdhi.command.v1 import state_pb2
from cbmdhi.protocol.state_keys import audit_key, consent_key, epoch_key, record_key
from services.ledger.domain.transactions import Change, facts_of


def epoch(number: int) -> Change:
    return Change(epoch_key(number), state_pb2.Epoch(number=number).SerializeToString())


def test_the_newest_epoch_of_a_transaction_is_the_channels() -> None:
    assert facts_of([epoch(7), epoch(8), epoch(6)]).newest_epoch == 8
    assert facts_of([]).newest_epoch == 0


def test_what_is_not_listed_hides_nothing_behind_it() -> None:
    entry = state_pb2.AuditEntry(command_id="one", signer="s").SerializeToString()
    facts = facts_of(
        [
            Change(consent_key("cb1a"), b"\xff"),
            Change(consent_key("cb1b"), None),
            Change(record_key("old", 2), None),
            Change(audit_key("one", "s"), entry),
        ]
    )
    assert facts.dropped_records == [("old", 2)]
    assert [(one.message.command_id, one.value) for one in facts.entries] == [("one", entry)]
