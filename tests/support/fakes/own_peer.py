"""A member's Fabric peer, as far as storage asks it: the gateway service over blocks in memory, with TLS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.msp import msp_config_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2

from tests.support.fakes.fabric_blocks import CHAINCODE, Member, Network, Organisation
from tests.support.pki import Issued
from tests.support.waiting import free_port


class OwnPeer(gateway_pb2_grpc.GatewayServicer):
    """blocks   by transaction id, serialized; what is missing it has not committed
    invalid  what it found invalid, whatever a block's flags say: transactions, and how
    waits    how its waiting for what it has not committed ends
    asked    of its chaincode, by `query`; `answers`: what that says, in turn
    """

    def __init__(self, network: Network, blocks: Mapping[str, bytes]) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.network = network
        self.blocks = blocks
        self.invalid: dict[str, int] = {}
        self.waits = grpc.StatusCode.DEADLINE_EXCEEDED
        self.config = config_block(network)
        self.asked: list[bytes] = []
        self.answers: list[bytes] = []

    async def start(self, tls: Issued) -> None:
        self._server = grpc.aio.server()
        gateway_pb2_grpc.add_GatewayServicer_to_server(self, self._server)
        pair = (tls.key_file.read_bytes(), tls.certificate_file.read_bytes())
        self._server.add_secure_port(self.address, grpc.ssl_server_credentials([pair]))
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    async def CommitStatus(self, request: Any, context: Any) -> Any:
        tx_id = gateway_pb2.CommitStatusRequest.FromString(request.request).transaction_id
        if tx_id not in self.blocks:
            await context.abort(self.waits, "not committed")
        number = list(self.blocks).index(tx_id)
        return gateway_pb2.CommitStatusResponse(result=self.invalid.get(tx_id, 0), block_number=number)

    async def Evaluate(self, request: Any, context: Any) -> Any:
        proposal = proposal_pb2.Proposal.FromString(request.proposed_transaction.proposal_bytes)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
        function, *raw = spec.input.args
        if (spec.chaincode_id.name, function) == (CHAINCODE, b"query"):
            answer = self.answers.pop(0)
            result = proposal_response_pb2.Response(status=200, payload=answer)
            self.asked.append(raw[0])
            return gateway_pb2.EvaluateResponse(result=result)
        function, arguments = function.decode(), [argument.decode() for argument in raw]
        if (spec.chaincode_id.name, function) == ("cscc", "GetConfigBlock"):
            answer = self.config
        elif (spec.chaincode_id.name, function) == ("qscc", "GetBlockByNumber"):
            answer = list(self.blocks.values())[int(arguments[1])]
        else:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "a reader may not")
            raise AssertionError
        return gateway_pb2.EvaluateResponse(result=proposal_response_pb2.Response(status=200, payload=answer))


def config_block(network: Network, consenters: Mapping[int, Member] | None = None) -> bytes:
    """The channel's configuration: two members, and who orders; by BFT when there are consenters."""
    envelope = configtx_pb2.ConfigEnvelope()
    group = envelope.config.channel_group
    for organisation in (network.mercy, network.lakeside):
        _add(group.groups["Application"], organisation)
    ordering = group.groups["Orderer"]
    _add(ordering, network.ordering)
    kind = orderer_pb2.ConsensusType(type="BFT" if consenters else "etcdraft")
    ordering.values["ConsensusType"].value = kind.SerializeToString()
    if consenters:
        mapping = [
            configuration_pb2.Consenter(id=number, msp_id=member.msp_id, identity=member.pem)
            for number, member in consenters.items()
        ]
        orderers = configuration_pb2.Orderers(consenter_mapping=mapping)
        ordering.values["Orderers"].value = orderers.SerializeToString()
    payload = common_pb2.Payload(data=envelope.SerializeToString()).SerializeToString()
    block = common_pb2.Block()
    block.data.data.append(common_pb2.Envelope(payload=payload).SerializeToString())
    return block.SerializeToString()


def _add(group: Any, organisation: Organisation) -> None:
    msp = msp_config_pb2.FabricMSPConfig(name=organisation.msp_id, root_certs=[organisation.pem.encode()])
    config = msp_config_pb2.MSPConfig(config=msp.SerializeToString())
    group.groups[organisation.msp_id].values["MSP"].value = config.SerializeToString()
