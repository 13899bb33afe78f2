"""Fabric blocks made in memory, signed by organisations made in memory: to be checked, and to be forged."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fabric_protos.common import common_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import (
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)

from cbmdhi.command.v1.state_pb2 import Batch, BatchResult, GetKeys, Query, QueryResult
from cbmdhi.protocol import signature
from cbmdhi.protocol.block import Header
from cbmdhi.protocol.proof import Trust

CHANNEL, CHAINCODE = "cbmdhi", "cbmdhi"


class Chance:
    """Keys, bytes and the time of a network in memory: others each time, or the same for ever where somebody
    says so (tests/vectors)."""

    same_signatures = False

    def key(self) -> ec.EllipticCurvePrivateKey:
        return signature.new_private_key()

    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def serial(self) -> int:
        return x509.random_serial_number()

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)


@dataclass
class Organisation:
    """An organisation with a root of its own that issues certificates."""

    msp_id: str
    chance: Chance = field(default_factory=Chance)

    def __post_init__(self) -> None:
        self.key = self.chance.key()
        self.root = _certificate(self, self.msp_id, "root", self.key.public_key(), ca=True)

    @property
    def pem(self) -> str:
        """The root in PEM."""
        return self.root.public_bytes(Encoding.PEM).decode()

    def issue(self, unit: str, at: datetime.datetime | None = None) -> Member:
        """An identity of this organisation with an organisational unit such as `peer`, issued now or `at`."""
        key = self.chance.key()
        certificate = _certificate(self, f"{unit}0", unit, key.public_key(), at=at)
        return Member(self.msp_id, key, certificate.public_bytes(Encoding.PEM), self.chance)


@dataclass
class Member:
    """Somebody who can sign for an organisation."""

    msp_id: str
    key: ec.EllipticCurvePrivateKey
    pem: bytes
    chance: Chance = field(default_factory=Chance)

    @property
    def serialized(self) -> bytes:
        """msp.SerializedIdentity."""
        return identities_pb2.SerializedIdentity(mspid=self.msp_id, id_bytes=self.pem).SerializeToString()

    def sign(self, message: bytes) -> bytes:
        """A Fabric signature."""
        algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=self.chance.same_signatures)
        return signature.low_s(self.key.sign(message, algorithm))


@dataclass(frozen=True)
class Otherwise:
    """What of an endorsed call is not as it should be: to see who notices.

    arguments, values  beside those that belong there
    """

    kind: int = common_pb2.ENDORSER_TRANSACTION
    channel: str = CHANNEL
    tx_id: str = ""
    status: int = 200
    proposal_hash: bytes = b""
    arguments: tuple[bytes, ...] = ()
    values: tuple[bytes, ...] = ()
    actions: int = 1


AS_IT_SHOULD_BE = Otherwise()


class Network:
    """Two members and an orderer that can put a batch into a block."""

    def __init__(self, chance: Chance | None = None) -> None:
        self.chance = chance or Chance()
        self.mercy, self.lakeside, self.ordering = (
            Organisation(msp_id, self.chance) for msp_id in ("MercyMSP", "LakesideMSP", "OrderingMSP")
        )
        self.peers = [self.mercy.issue("peer"), self.lakeside.issue("peer")]
        self.orderer, self.client = self.ordering.issue("orderer"), self.mercy.issue("client")
        self.previous = common_pb2.BlockHeader(
            number=6, previous_hash=self.chance.bytes(32), data_hash=self.chance.bytes(32)
        )

    @property
    def trust(self) -> Trust:
        """What a verifier would have pinned."""
        roots = {member.msp_id: member.pem for member in (self.mercy, self.lakeside)}
        return Trust(CHANNEL, CHAINCODE, roots, {self.ordering.msp_id: self.ordering.pem})

    def transaction(
        self,
        batch: Batch,
        result: BatchResult,
        *,
        endorsers: list[Member] | None = None,
        chaincode: str = CHAINCODE,
        under: str = "",
    ) -> tuple[str, bytes]:
        """Transaction id and envelope of a batch with its answer. under: an id that is another's."""
        arguments = [b"process", batch.SerializeToString()]
        forged = Otherwise(tx_id=under)
        tx_id, raw = self._endorsed(arguments, result.SerializeToString(), endorsers, chaincode, forged)
        return tx_id, common_pb2.Envelope(payload=raw, signature=self.client.sign(raw)).SerializeToString()

    def state(
        self,
        values: dict[str, bytes],
        *,
        endorsers: list[Member] | None = None,
        chaincode: str = CHAINCODE,
        function: bytes = b"query",
        otherwise: Otherwise = AS_IT_SHOULD_BE,
    ) -> bytes:
        """What the peers endorse when they are asked for the values of state keys."""
        query = Query(get_keys=GetKeys(keys=values))
        result = QueryResult(values=[*values.values(), *otherwise.values])
        arguments = [function, query.SerializeToString(), *otherwise.arguments]
        return self._endorsed(arguments, result.SerializeToString(), endorsers, chaincode, otherwise)[1]

    def asked(self, arguments: list[bytes], answer: bytes) -> bytes:
        """Whatever was asked and answered, endorsed by the peers."""
        return self._endorsed(arguments, answer, None, CHAINCODE)[1]

    def _endorsed(
        self,
        arguments: list[bytes],
        answer: bytes,
        endorsers: list[Member] | None,
        chaincode: str,
        otherwise: Otherwise = AS_IT_SHOULD_BE,
    ) -> tuple[str, bytes]:
        nonce = self.chance.bytes(24)
        creator = self.client.serialized
        tx_id = otherwise.tx_id or hashlib.sha256(nonce + creator).hexdigest()
        channel_header = common_pb2.ChannelHeader(
            type=otherwise.kind, channel_id=otherwise.channel, tx_id=tx_id
        )
        channel_header.timestamp.FromDatetime(self.chance.now())
        header = common_pb2.Header(
            channel_header=channel_header.SerializeToString(),
            signature_header=common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString(),
        )
        invocation = chaincode_pb2.ChaincodeInvocationSpec()
        invocation.chaincode_spec.input.args.extend(arguments)
        proposal = proposal_pb2.ChaincodeProposalPayload(
            input=invocation.SerializeToString()
        ).SerializeToString()
        action = proposal_pb2.ChaincodeAction(
            response=proposal_response_pb2.Response(status=otherwise.status, payload=answer),
            chaincode_id=chaincode_pb2.ChaincodeID(name=chaincode),
        )
        response = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=otherwise.proposal_hash
            or hashlib.sha256(header.channel_header + header.signature_header + proposal).digest(),
            extension=action.SerializeToString(),
        ).SerializeToString()
        endorsements = [
            proposal_response_pb2.Endorsement(
                endorser=peer.serialized, signature=peer.sign(response + peer.serialized)
            )
            for peer in (self.peers if endorsers is None else endorsers)
        ]
        payload = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=proposal,
            action=transaction_pb2.ChaincodeEndorsedAction(
                proposal_response_payload=response, endorsements=endorsements
            ),
        )
        transaction = transaction_pb2.Transaction(
            actions=[
                transaction_pb2.TransactionAction(
                    header=header.signature_header, payload=payload.SerializeToString()
                )
            ]
            * otherwise.actions
        )
        return tx_id, common_pb2.Payload(
            header=header, data=transaction.SerializeToString()
        ).SerializeToString()

    def block(
        self, *envelopes: bytes, flag: int = 0, flags: bytes = b"", orderer: Member | None = None
    ) -> common_pb2.Block:
        """A block after `previous` with these envelopes, signed by the orderer.

        flag   what the peer found of them all
        flags  of each
        """
        signer = orderer or self.orderer
        block = common_pb2.Block()
        block.data.data.extend(envelopes)
        block.header.number = self.previous.number + 1
        block.header.previous_hash = _header(self.previous).hash
        block.header.data_hash = hashlib.sha256(b"".join(block.data.data)).digest()
        signature_header = common_pb2.SignatureHeader(
            creator=signer.serialized, nonce=self.chance.bytes(24)
        ).SerializeToString()
        value = b"last-config"
        signed = signer.sign(value + signature_header + _header(block.header).encoded)
        metadata = common_pb2.Metadata(
            value=value,
            signatures=[common_pb2.MetadataSignature(signature_header=signature_header, signature=signed)],
        )
        block.metadata.metadata.extend(
            [metadata.SerializeToString(), b"", flags or bytes([flag] * len(envelopes))]
        )
        return block


def _header(header: common_pb2.BlockHeader) -> Header:
    return Header.parse(header.SerializeToString())


def issue_certificate(
    ca: Organisation, name: str, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
) -> x509.Certificate:
    """A certificate for somebody's key, with an extension such as Fabric CA's attributes."""
    return _certificate(ca, name, "client", key, extension=extension)


def _certificate(
    issuer: Organisation,
    name: str,
    unit: str,
    subject_key: ec.EllipticCurvePublicKey,
    ca: bool = False,
    extension: x509.ExtensionType | None = None,
    at: datetime.datetime | None = None,
) -> x509.Certificate:
    now = at or issuer.chance.now()
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if not ca:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer.msp_id)]))
        .public_key(subject_key)
        .serial_number(issuer.chance.serial())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(
        issuer.key, hashes.SHA256(), ecdsa_deterministic=True if issuer.chance.same_signatures else None
    )
