"""What is committed, with real keys, blocks and signatures, and one member's view of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.command_pb2 import Custodian
from cbmdhi.command.v1.state_pb2 import (
    IDENTITY_STATUS_ACTIVE,
    Batch,
    BatchItem,
    BatchResult,
    ExplainItem,
    GroupVerdict,
    IdentityDocument,
    MemberDocument,
    RecordVersion,
    Verdict,
)
from cbmdhi.ledger.v1.ledger_pb2 import CommittedBatch, GetCommittedContentsResponse
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import command, envelope, hpke, signature
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.proof import Trust
from cbmdhi.protocol.state_keys import sealed_record_key_name
from services.runtime.errors import MeshError
from services.storage.channel.ledger import Consortium
from services.storage.domain.batch import PlainRecord
from services.storage.domain.keys import WriterKeyRef
from services.storage.domain.lease import Content
from services.storage.sealing.sealer import Sealed
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_blocks import Member, Network

MERCY, LAKESIDE = "MercyMSP", "LakesideMSP"
AUTHOR = "cb1" + "a" * 32


@dataclass(frozen=True)
class Person:
    """An identity with its keys."""

    signer: command.KeySigner
    hpke_private: bytes
    document: IdentityDocument

    @property
    def address(self) -> str:
        return self.signer.address


@dataclass
class Channel:
    """What is committed, as every member sees it; sealed keys by (msp, key).

    decided  codes by command id and signer
    time_ms  of the newest transaction
    denied   records of which the consent is revoked now, by record id
    """

    network: Network = field(default_factory=Network)
    identities: dict[str, IdentityDocument] = field(default_factory=dict)
    registrations: dict[str, pb.SignedCommand] = field(default_factory=dict)
    members: dict[str, MemberDocument] = field(default_factory=dict)
    min_replicas: int = 2
    records: dict[tuple[str, int], RecordVersion] = field(default_factory=dict)
    writer_keys: dict[tuple[str, str], WriterKeyRef] = field(default_factory=dict)
    private: dict[tuple[str, str], bytes] = field(default_factory=dict)
    proofs: dict[str, bytes] = field(default_factory=dict)
    decided: dict[tuple[str, str], int] = field(default_factory=dict)
    time_ms: int = 0
    denied: set[str] = field(default_factory=set)

    def register(self, role: pb.Role, custodians: Sequence[str] = ()) -> Person:
        """An active identity; a patient's record key is sealed to the custodians."""
        signer = command.KeySigner(signature.new_private_key())
        private, public = hpke.generate()
        document = IdentityDocument(
            address=signer.address,
            role=role,
            home_msp=MERCY,
            status=IDENTITY_STATUS_ACTIVE,
            signing_public_key=signature.spki(signer.private_key.public_key()),
            hpke_public_key=public,
        )
        for msp in custodians:
            vault = self.members[msp].vault_public_key
            sealed = hpke.seal(vault, private, hpke.RECORD_KEY, signer.address, msp)
            document.custodians.append(Custodian(msp=msp, sealed_key_sha256=hashlib.sha256(sealed).digest()))
            self.private[msp, sealed_record_key_name(signer.address)] = sealed
        self.identities[signer.address] = document
        body = pb.RegisterIdentity(
            address=signer.address,
            role=role,
            home_msp=MERCY,
            signing_public_key=document.signing_public_key,
            hpke_public_key=public,
            custodians=document.custodians,
        )
        self.registrations[signer.address] = signer.sign_command(command.make(body, channel=CHANNEL))
        return Person(signer, private, document)

    def commit(
        self,
        items: Sequence[PlainRecord],
        sealed: Sealed,
        writer_msp: str = MERCY,
        refused: Sequence[PlainRecord] = (),
    ) -> None:
        """Commit the records that were sealed, with their writer keys, but for those that are refused."""
        for item, result in zip(items, sealed.results, strict=True):
            assert result.code == code_pb2.CODE_OK
            if item in refused:
                self.decided[item.command_id, item.signer] = code_pb2.CODE_FORBIDDEN
                continue
            self.decided[item.command_id, item.signer] = code_pb2.CODE_OK
            key = result.stored.writer_key
            self.records[item.record_id, item.version] = RecordVersion(
                record_id=item.record_id,
                version=item.version,
                patient=item.patient,
                content_commitment=item.commitment,
                writer_msp=writer_msp,
                content=result.stored,
                command_id=item.command_id,
            )
            self.writer_keys[writer_msp, item.patient] = WriterKeyRef(
                key.key_id, key.epoch, key.sealed_key_sha256
            )
            for one in result.sealed_keys:
                self.private[one.msp, one.key] = one.sealed

    def decide(
        self,
        reader: Person,
        item: PlainRecord,
        *,
        code: int = code_pb2.CODE_OK,
        body: object | None = None,
        endorsers: list[Member] | None = None,
        flag: int = 0,
    ) -> tuple[str, str]:
        """An access and its verdict in a block: (tx_id, command_id)."""
        command_id = uuid7()
        meant = body or pb.Access(
            patient=item.patient,
            record_id=item.record_id,
            version=item.version,
            purpose="TREAT",
            action="read",
        )
        signed = reader.signer.sign_command(
            command.make(meant, channel=CHANNEL, command_id=command_id)  # type: ignore[arg-type]
        )
        batch = Batch(items=[BatchItem(group=pb.CommandGroup(commands=[signed]))])
        verdict = Verdict(command_id=command_id, code=code)  # type: ignore[arg-type]
        version = self.records.get((item.record_id, item.version))
        if code == code_pb2.CODE_OK and version is not None:
            verdict.record.CopyFrom(version)
        result = BatchResult(groups=[GroupVerdict(verdicts=[verdict])])
        tx_id, wrapped = self.network.transaction(batch, result, endorsers=endorsers)
        block = self.network.block(wrapped, flag=flag)
        self.proofs[tx_id] = block.SerializeToString()
        return tx_id, command_id


class FakeLedger:
    """One member's view of the channel. `behind`: transactions that its peer has not committed yet;
    `uncertified`: addresses of which it gives something else than was registered; `away`: it does not answer
    about contents; `lagging`: the channel as it was, of which alone its projection knows."""

    def __init__(self, channel: Channel, msp: str) -> None:
        self.channel = channel
        self.msp = msp
        self.behind: set[str] = set()
        self.uncertified: set[str] = set()
        self.asked_for_identities: list[list[str]] = []
        self.asked_for_writer_keys: list[list[str]] = []
        self.asked_for_proofs = 0
        self.asked_for_consents: list[list[ExplainItem]] = []
        self.asked_for_contents: list[list[str]] = []
        self.away = False
        self.lagging: Channel | None = None

    async def identities(self, addresses: Sequence[str]) -> list[IdentityDocument | MeshError]:
        self.asked_for_identities.append(list(addresses))
        return [
            MeshError(code_pb2.CODE_INTEGRITY, "not certified")
            if address in self.uncertified
            else self._identity(address)
            for address in addresses
        ]

    def _identity(self, address: str) -> IdentityDocument | MeshError:
        """As it is now: what becomes of it later the answer does not show."""
        document = self.channel.identities.get(address)
        return _not_found() if document is None else IdentityDocument.FromString(document.SerializeToString())

    async def consortium(self) -> Consortium:
        return Consortium(self.channel.members, self.channel.min_replicas)

    async def writer_keys(self, patients: Sequence[str]) -> list[WriterKeyRef | None]:
        self.asked_for_writer_keys.append(list(patients))
        return [self.channel.writer_keys.get((self.msp, patient)) for patient in patients]

    async def committed_contents(
        self, asked: Mapping[str, Sequence[Content]]
    ) -> GetCommittedContentsResponse:
        if self.away:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        self.asked_for_contents.append(list(asked))
        channel = self.channel if self.lagging is None else self.lagging
        named: dict[str, list[str]] = {}
        for record in channel.records.values():
            root = cids.of_root(record.content.root_sha256)
            named.setdefault(root, []).append(record.content.cid)
        for identity in channel.identities.values():
            named.setdefault(identity.evidence_cid, []).append(identity.evidence_cid)
        return GetCommittedContentsResponse(
            channel_time_ms=channel.time_ms,
            batches=[
                CommittedBatch(
                    cids=named.get(root, ()),
                    decided=[(one.command_id, one.signer) in channel.decided for one in contents],
                )
                for root, contents in asked.items()
            ],
        )

    async def explain(self, items: Sequence[ExplainItem]) -> list[Verdict]:
        self.asked_for_consents.append(list(items))
        return [
            Verdict(code=code_pb2.CODE_FORBIDDEN, reason="the patient denies it")
            if one.record_id in self.channel.denied
            else Verdict(code=code_pb2.CODE_OK)
            for one in items
        ]

    async def block(self, tx_id: str, wait_seconds: float) -> bytes:
        """As its peer gives it."""
        self.asked_for_proofs += 1
        found = self.channel.proofs.get(tx_id)
        if found is None or tx_id in self.behind:
            raise _not_found()
        return found

    async def trust(self, *, fresh: bool = False) -> Trust:
        return self.channel.network.trust

    async def sealed_keys(self, keys: Sequence[str]) -> list[bytes]:
        return [self.channel.private.get((self.msp, key), b"") for key in keys]


def item(patient: str, content: bytes = b"a finding", version: int = 1) -> PlainRecord:
    """A version of a new record as its author would send it."""
    salt = envelope.new_salt()
    commitment = envelope.commitment(salt, content)
    return PlainRecord(uuid7(), version, patient, content, salt, commitment, uuid7(), AUTHOR)


def decrypt(reader: Person, opened: object, command_id: str, wanted: PlainRecord) -> bytes:
    """What the reader's client does with an answer."""
    data_key = hpke.open(
        reader.hpke_private,
        opened.sealed_data_key,  # type: ignore[attr-defined]
        hpke.DATA_KEY,
        reader.address,
        command_id,
        wanted.record_id,
        str(wanted.version),
    )
    binding = envelope.Binding(wanted.patient, wanted.record_id, wanted.version)
    return envelope.open(opened.blocks, data_key, binding).content  # type: ignore[attr-defined]


def _not_found() -> MeshError:
    return MeshError(code_pb2.CODE_NOT_FOUND, "not there")
