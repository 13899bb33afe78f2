"""The official Fabric protos under short names.

They are typed Any since the package has no stubs: their classes are made when it is imported.
"""

from typing import Any

from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2, ledger_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import identities_pb2, msp_config_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.peer import (
    chaincode_pb2,
    events_pb2_grpc,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)

ab: Any = ab_pb2
chaincode: Any = chaincode_pb2
common: Any = common_pb2
configtx: Any = configtx_pb2
configuration: Any = configuration_pb2
events_grpc: Any = events_pb2_grpc
gateway: Any = gateway_pb2
gateway_grpc: Any = gateway_pb2_grpc
identities: Any = identities_pb2
kv_rwset: Any = kv_rwset_pb2
ledger: Any = ledger_pb2
msp_config: Any = msp_config_pb2
orderer: Any = orderer_pb2
proposal: Any = proposal_pb2
proposal_response: Any = proposal_response_pb2
rwset: Any = rwset_pb2
transaction: Any = transaction_pb2
