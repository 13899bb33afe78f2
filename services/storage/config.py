"""Configuration of the storage service; see docs/conventions.md."""

from pydantic import Field

from services.runtime.config import (
    Address,
    ClientCa,
    FabricIdentity,
    FabricPeer,
    ReadableFile,
    Section,
    SignedChannelConfig,
)
from services.storage.domain.batch import MAX_BATCH_BYTES, MIB


class Member(Section):
    """A member and the address of its storage. Which peers count is in the channel's configuration."""

    msp_id: str
    storage_address: Address


class StorageConfig(SignedChannelConfig):
    """peer, fabric_identity     the own peer, and the identity that may read the channel there
    members                   every member of the consortium, the own one included
    client_ca                 the CA roots by which each member's revocation list is checked
    revocations_every_seconds how often identity is asked whom the members' CAs have revoked
    vault_key_file            HPKE private key, the 96 bytes of `cbmdhi.protocol.hpke.generate`; mode 0600
    storage_signing_key_file  P-256, PEM; signs replica receipts; mode 0600
    decision_max_age_seconds  after its commit: how long a decision releases keys
    clock_skew_seconds        how far a decision may be dated ahead of this machine's clock
    commit_wait_seconds       how long to wait for the own peer to commit a decision
    push_seconds              deadline for the copies of a batch at other members
    spare_seconds             how long one of these may be silent before another is asked as well
    release_seconds           deadline of each member that is asked for a key
    in_flight_mib             memory for batches in progress; above it: RESOURCE_EXHAUSTED
    leased_mib_per_member     most MiB of CARs pinned here for one other member whose outcome is open (above:
                              RESOURCE_EXHAUSTED): more than 1,500 records/s of 1 kB in a lease's 15 minutes
    leases_per_member         most such CARs of one member
    recent_mib                memory for blocks (ciphertext, roots) stored, replicated or read lately
    """

    service_name = "storage"

    chaincode: str = "cbmdhi"
    ledger_address: Address
    identity_address: Address
    notify_address: Address
    kubo_rpc_address: Address
    vault_key_file: ReadableFile
    storage_signing_key_file: ReadableFile
    members: tuple[Member, ...] = Field(min_length=1)
    client_ca: tuple[ClientCa, ...] = Field(min_length=1)
    revocations_every_seconds: float = Field(default=1.0, gt=0, le=2)
    peer: FabricPeer
    fabric_identity: FabricIdentity
    decision_max_age_seconds: float = Field(default=600, gt=0, le=600)
    clock_skew_seconds: float = Field(default=60, ge=0, le=600)
    commit_wait_seconds: float = Field(default=5, ge=0, le=10)
    kubo_call_seconds: float = Field(default=5, gt=0, le=60)
    kubo_import_seconds: float = Field(default=15, gt=0, le=300)
    push_seconds: float = Field(default=15, gt=0, le=300)
    spare_seconds: float = Field(default=3, gt=0, le=60)
    fetch_seconds: float = Field(default=5, gt=0, le=60)
    release_seconds: float = Field(default=6, gt=0, le=60)
    in_flight_mib: int = Field(default=384, ge=3 * MAX_BATCH_BYTES // MIB)
    leased_mib_per_member: int = Field(default=2048, ge=2 * MAX_BATCH_BYTES // MIB)
    leases_per_member: int = Field(default=20_000, ge=100)
    recent_mib: int = Field(default=64, ge=0)
