"""What listens where inside a pod. The manifests name the same ports; a test compares them."""

from ops.devnet.topology import SERVICES

PORTS: dict[str, dict[str, int]] = {
    **{service: {"grpc": 7411, "ops": 7412} for service in SERVICES},
    "gateway": {"grpc": 7411, "ops": 7412, "first-contact": 7413, "rest": 7414},
    "peer": {"grpc": 7051, "ops": 9443},
    "chaincode": {"grpc": 7052},
    "orderer": {"grpc": 7050, "admin": 7053, "ops": 9443},
    "ca": {"https": 7054, "ops": 9443},
    "ipfs": {"swarm": 4001, "rpc": 5001},
    "nats": {"client": 4222, "monitor": 8222},
    # The operator's own.
    "collector": {"otlp": 4317},
    # Behind its Service; many clusters have it on the port of `store`.
    "apiserver": {"https": 6443},
    "store": {"https": 443},
}
# The peer's listener for chaincode that dials in; nothing does, so that it stays inside the pod.
PEER_CHAINCODE_PORT = 7052
