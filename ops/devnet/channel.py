"""From keys to a channel: genesis block, joining, the chaincode's definition, and its `init`."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ops.devnet import chaincode_package
from ops.devnet.commands import run
from ops.devnet.errors import CommandFailed
from ops.devnet.gateway_submit import Signer, submit
from ops.devnet.layout import Home, tool
from ops.devnet.templates import Raw, fill, write
from ops.devnet.topology import CHAINCODE, CHANNEL, ORDERER, ORDERING, Ports, msp_id
from ops.devnet.waiting import until

_VERSION = "1"
_SEQUENCE = "1"
# What an orderer says of itself (etcdraft, chain.go): it took nothing, and the same may be sent again.
_NO_LEADER = "no Raft leader"
_LEADER_SECONDS = 20.0


def make_genesis_block(home: Home, ports: Ports) -> None:
    """Write the channel's genesis block: members with their anchor peers, and the Raft consenters."""
    members = [
        fill(
            "fabric/configtx-member.yaml",
            msp_id=msp_id(organisation),
            raw_msp_id=Raw(msp_id(organisation)),
            msp_directory=home.organisation(organisation).admin / "msp",
            host=ports.host(organisation, "peer"),
            port=ports.of(organisation, "peer"),
        )
        for organisation in home.members
    ]
    ordering = [
        fill(
            "fabric/configtx-orderer.yaml",
            msp_id=msp_id(organisation),
            raw_msp_id=Raw(msp_id(organisation)),
            msp_directory=home.organisation(organisation).admin / "msp",
            address=ports.address(organisation, ORDERER),
        )
        for organisation in home.orderers
    ]
    consenters = [
        fill(
            "fabric/configtx-consenter.yaml",
            host=ports.host(organisation, ORDERER),
            port=ports.of(organisation, ORDERER),
            tls_certificate=home.organisation(organisation).orderer / "tls" / "server.crt",
        )
        for organisation in home.orderers
    ]
    write(
        home.channel / "configtx.yaml",
        fill(
            "fabric/configtx.yaml",
            members=Raw("".join(members)),
            orderers=Raw("".join(ordering)),
            consenters=Raw("".join(consenters)),
        ),
    )
    run(
        home,
        [
            *(tool("configtxgen"), "-configPath", home.channel, "-profile", "Channel"),
            *("-channelID", CHANNEL, "-outputBlock", _genesis_block(home)),
        ],
    )


def join_orderer(home: Home, organisation: str, ports: Ports, block: Path | None = None) -> None:
    """Have the orderer of an organisation start the channel, or follow one that goes on.

    block  the newest block of configuration of a channel that goes on; None: its first block
    """
    tls = home.organisation(organisation).admin / "tls"
    run(
        home,
        [
            *(tool("osnadmin"), "channel", "join", "--channelID", CHANNEL),
            *("--config-block", block or _genesis_block(home)),
            *("--orderer-address", ports.address(organisation, "orderer_admin")),
            *("--ca-file", tls / "ca.crt"),
            *("--client-cert", tls / "server.crt", "--client-key", tls / "server.key"),
        ],
    )


def join_peer_and_install(home: Home, organisation: str, ports: Ports) -> None:
    """Have a peer join the channel, install the member's chaincode package, and approve the definition."""
    peer(home, organisation, ports, ["channel", "join", "-b", _genesis_block(home)])
    package = chaincode_package.path(home, organisation)
    peer(home, organisation, ports, ["lifecycle", "chaincode", "install", package])


def approve(home: Home, organisation: str, ports: Ports) -> None:
    """A member's approval of the chaincode's definition, committed, once the orderers have a leader."""
    package = chaincode_package.package_id(home, organisation)
    arguments = ["lifecycle", "chaincode", "approveformyorg", *_definition(), *to_orderer(home, ports)]
    until(
        lambda: _ordered(home, organisation, ports, [*arguments, "--package-id", package]),
        "a Raft leader among the orderers",
        _LEADER_SECONDS,
        remedy=f"See what the orderer says in {home.logs}.",
    )


def commit(home: Home, ports: Ports) -> None:
    """Commit the definition that every member approved, once every peer knows the approvals."""
    for organisation in home.members:
        until(
            lambda organisation=organisation: _approved_by_all(home, organisation, ports) or None,
            f"the approvals' arrival at the peer of {organisation}",
            20,
        )
    peers = [part for organisation in home.members for part in _endorser(home, organisation, ports)]
    peer(
        home,
        home.members[0],
        ports,
        ["lifecycle", "chaincode", "commit", *_definition(), *to_orderer(home, ports), *peers],
    )


def initialise(home: Home, ports: Ports) -> None:
    """Invoke the chaincode's `init` with the agreed Genesis, endorsed by every member.

    `peer chaincode invoke` carries arguments as JSON text; the Genesis is bytes. So this goes through the
    peer's Gateway service, as every later transaction does.
    """
    organisation = home.members[0]
    admin = home.organisation(organisation).admin / "msp"
    signer = Signer(
        msp_id(organisation),
        (admin / "signcerts" / "cert.pem").read_bytes(),
        (admin / "keystore" / "key.pem").read_bytes(),
    )
    submit(
        address=ports.address(organisation, "peer"),
        tls_root=home.organisation(organisation).tls_ca_certificate.read_bytes(),
        signer=signer,
        channel=CHANNEL,
        chaincode=CHAINCODE,
        arguments=[b"init", home.chaincode_genesis.read_bytes()],
        endorsing_msp_ids=[msp_id(member) for member in home.members],
        seconds=20,
    )


def for_every_member(home: Home, ports: Ports) -> None:
    """Join, install and approve for all members at once, then commit the definition."""
    with ThreadPoolExecutor(len(home.members)) as pool:
        for step in (join_peer_and_install, approve):
            for future in [pool.submit(step, home, organisation, ports) for organisation in home.members]:
                future.result()
    commit(home, ports)


def _genesis_block(home: Home) -> Path:
    return home.channel / "genesis.block"


def _definition() -> list[str]:
    return ["--channelID", CHANNEL, "--name", CHAINCODE, "--version", _VERSION, "--sequence", _SEQUENCE]


def to_orderer(home: Home, ports: Ports, organisation: str = ORDERING) -> list[str | Path]:
    """Arguments of `peer` that name the orderer of an organisation."""
    root = home.organisation(organisation).tls_ca_certificate
    return ["--orderer", ports.address(organisation, ORDERER), "--tls", "--cafile", root]


def _endorser(home: Home, organisation: str, ports: Ports) -> list[str | Path]:
    root = home.organisation(organisation).tls_ca_certificate
    return ["--peerAddresses", ports.address(organisation, "peer"), "--tlsRootCertFiles", root]


def _approved_by_all(home: Home, organisation: str, ports: Ports) -> bool:
    answer = peer(
        home,
        organisation,
        ports,
        ["lifecycle", "chaincode", "checkcommitreadiness", *_definition(), "--output", "json"],
    )
    return all(json.loads(answer)["approvals"].values())


def _ordered(home: Home, organisation: str, ports: Ports, arguments: list[str | Path]) -> bool:
    """Whether the orderer took what a command sent; False when it has no leader yet."""
    try:
        peer(home, organisation, ports, arguments)
    except CommandFailed as failed:
        if _NO_LEADER in failed.problem:
            return False
        raise
    return True


def peer(home: Home, organisation: str, ports: Ports, arguments: list[str | Path]) -> str:
    """A command of `peer`, as the administrator of an organisation, to its own peer."""
    folders = home.organisation(organisation)
    return run(
        home,
        [tool("peer"), *arguments],
        {
            "FABRIC_CFG_PATH": str(folders.peer),
            "FABRIC_LOGGING_SPEC": "warning",
            "CORE_PEER_LOCALMSPID": msp_id(organisation),
            "CORE_PEER_MSPCONFIGPATH": str(folders.admin / "msp"),
            "CORE_PEER_ADDRESS": ports.address(organisation, "peer"),
            "CORE_PEER_TLS_ENABLED": "true",
            "CORE_PEER_TLS_ROOTCERT_FILE": str(folders.tls_ca_certificate),
        },
    )
