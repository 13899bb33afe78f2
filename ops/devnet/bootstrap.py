"""The first start: from an empty folder to a channel whose chaincode knows its members."""

from concurrent.futures import Future, ThreadPoolExecutor

from ops.devnet import chaincode_package, channel, endpoints, fabric_ca, genesis, identities, kubo, programs
from ops.devnet.layout import Home
from ops.devnet.progress import Progress
from ops.devnet.start_programs import Starter
from ops.devnet.supervision import Supervisor
from ops.devnet.topology import ORDERER, Ports, program_name


def bootstrap(home: Home, ports: Ports, supervisor: Supervisor, starter: Starter, progress: Progress) -> None:
    """Make the network and leave all programs starting. Nothing of it may exist before."""
    organisations = home.organisations
    with progress.step(f"Certificate authorities of {', '.join(organisations[:-1])} and {organisations[-1]}"):
        for organisation in organisations:
            fabric_ca.configure(home, organisation, ports)
        supervisor.configure([fabric_ca.program(home, organisation) for organisation in organisations])
        supervisor.start()
        starter.start_and_wait([program_name(organisation, "ca") for organisation in organisations], 30)
    with ThreadPoolExecutor(len(organisations) + 1) as pool:
        making_ipfs = pool.submit(_make_ipfs, home, progress)
        with progress.step("Identities and TLS certificates, enrolled from them"):
            _all([pool.submit(identities.enrol, home, organisation, ports) for organisation in organisations])
        making_ipfs.result()
    with progress.step("Genesis of the channel and of the chaincode"):
        genesis.make(home)
        for organisation in home.members:
            chaincode_package.make(home, organisation, ports)
        channel.make_genesis_block(home, ports)
        endpoints.write_consortium(home, ports)
        programs.configure(home, ports)
        supervisor.configure(programs.describe(home, ports))
        supervisor.reload()
    with progress.step("Orderers, peers, chaincode, Kubo and NATS"):
        orderers = [program_name(organisation, ORDERER) for organisation in home.orderers]
        fabric_programs = [*orderers, *_of_members(home, "peer")]
        starter.start([*fabric_programs, *_of_members(home, "chaincode", "ipfs", "nats")])
        starter.wait(fabric_programs, 30)
    with progress.step("Channel: orderers and peers join, chaincode is approved and committed"):
        for organisation in home.orderers:
            channel.join_orderer(home, organisation, ports)
        channel.for_every_member(home, ports)
    with progress.step("Chaincode takes the agreed genesis, endorsed by every member"):
        starter.wait(_of_members(home, "chaincode"), 20)
        channel.initialise(home, ports)


def _make_ipfs(home: Home, progress: Progress) -> None:
    with progress.step("Kubo repositories of a private swarm"):
        kubo.make(home)


def _of_members(home: Home, *names: str) -> list[str]:
    return [program_name(organisation, name) for name in names for organisation in home.members]


def _all(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()
