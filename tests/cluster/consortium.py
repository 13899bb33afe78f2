"""Two members and the ordering organisation on a cluster: from its overlay and nothing else to a ready mesh.

What is done is what an operator does: the certificate authorities first, enrolment against them, Secrets and
ConfigMaps, then the programs, the channel, the chaincode. How each is done is the laptop network's, in
ops.devnet: only addresses differ.
"""

import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ops.demo.cast import Stage
from ops.devnet import chaincode_package, channel, endpoints, fabric, genesis, identities, kubo
from ops.devnet.layout import Home, tool
from ops.devnet.templates import write, write_secret
from ops.devnet.topology import MEMBERS, ORDERING, ORGANISATIONS, SERVICES
from ops.manifests import rendering
from ops.manifests.listeners import PORTS
from ops.manifests.rendering import Document
from tests.cluster import pods
from tests.cluster import secrets as material
from tests.cluster.control_plane import ControlPlaneError
from tests.cluster.node import Node
from tests.cluster.proof_log import Account
from tests.cluster.service_ports import ServicePorts

MANAGER = "k8s-run"
OVERLAY = "laptop"
_PODS_SECONDS = 180.0
_SERVICE_SECONDS = 20.0


class Consortium:
    """The organisations of the overlay `laptop`. `home`: where their operators keep their files."""

    def __init__(self, node: Node, home: Home, account: Account) -> None:
        self.node = node
        self.home = home
        self.ports = ServicePorts()
        self.documents = rendering.render(OVERLAY)
        self._account = account

    def stage(self) -> Stage:
        """Where the paper's story can be told, through the Services."""
        organisations: dict[str, Any] = {
            member: {"registrar": endpoints.registrar(self.home, member, self.ports)} for member in MEMBERS
        }
        known = {"consortium_file": str(self.home.consortium_file), "organisations": organisations}
        return Stage(self.home.path, known, tool("fabric-ca-client"))

    def make(self) -> None:
        """All of it. Raises ControlPlaneError or DevnetError."""
        self._certificate_authorities()
        self._enrol()
        self._infrastructure()
        self._channel()
        self._services()

    def _certificate_authorities(self) -> None:
        self._account.step("Certificate authorities, as pods")
        self.node.apply([doc for doc in self.documents if doc["kind"] == "Namespace"], MANAGER)
        self.node.wait(self._accounts_are_there, "service accounts", 30)
        for organisation in ORGANISATIONS:
            secret = secrets.token_urlsafe(32)
            write_secret(self.home.organisation(organisation).bootstrap_secret, secret)
            self.node.apply([material.ca_config(organisation, secret)], MANAGER)
        rest = [doc for doc in self.documents if doc["kind"] not in rendering.WORKLOADS]
        self._run(rest, lambda name: name == "ca")
        for organisation in ORGANISATIONS:
            folders = self.home.organisation(organisation)
            for path in (folders.ca_certificate, folders.tls_ca_certificate):
                # By way of the API server, whom the operator knows: by nothing yet is the CA itself believed.
                inside = material.CA_FOLDER / path.relative_to(folders.ca)
                write(path, self.node.execute(organisation, "ca-0", "cat", str(inside)))
        self._account.proved(f"a Fabric CA runs in each of {', '.join(ORGANISATIONS)}; its roots are fetched")

    def _enrol(self) -> None:
        self._account.step("Enrolment, genesis, Secrets and ConfigMaps")
        with ThreadPoolExecutor(len(ORGANISATIONS) + 1) as pool:
            tasks = [
                pool.submit(kubo.make, self.home),
                *(pool.submit(identities.enrol, self.home, org, self.ports) for org in ORGANISATIONS),
            ]
            for task in tasks:
                task.result()
        self._account.proved(
            "programs, registrars, devices, administrators are enrolled with the CAs' Services"
        )
        genesis.make(self.home)
        for member in MEMBERS:
            chaincode_package.make(self.home, member, self.ports)
            # What `peer` reads when it is the administrator's command.
            fabric.configure_peer(self.home, member, self.ports)
        channel.make_genesis_block(self.home, self.ports)
        endpoints.write_consortium(self.home, self.ports)
        made = [doc for organisation in ORGANISATIONS for doc in material.documents(self.home, organisation)]
        self.node.apply(made, MANAGER)
        kinds = [doc["kind"] for doc in made]
        self._account.proved(
            f"{kinds.count('Secret')} Secrets and {kinds.count('ConfigMap')} ConfigMaps are there, by the "
            "names of docs/kubernetes.md"
        )

    def _infrastructure(self) -> None:
        self._account.step("Orderer, peers, chaincode, Kubo and NATS, as pods")
        count = self._run([], lambda name: name not in (*SERVICES, "ca"))
        self._account.proved(f"{count} workloads are ready")

    def _channel(self) -> None:
        self._account.step("Channel and chaincode")
        admin = PORTS["orderer"]["admin"]
        with self.node.forwarded(ORDERING, "orderer-0", admin) as address:
            channel.join_orderer(
                self.home, ORDERING, replace(self.ports, forwarded={(ORDERING, "orderer_admin"): address})
            )
        self._account.proved(
            "the orderer has joined, through `kubectl port-forward`: no Service shows that port"
        )
        channel.for_every_member(self.home, self.ports)
        self._account.proved("both peers have joined; the chaincode is installed, approved, committed")
        channel.initialise(self.home, self.ports)
        self._account.proved("the chaincode has taken the agreed Genesis, endorsed by both members")

    def _services(self) -> None:
        self._account.step("The five services of each member, as pods")
        self._run([], lambda name: name in SERVICES)
        found = [pod for organisation in ORGANISATIONS for pod in self.node.get("pods", organisation)]
        late = pods.unready(found)
        if late:
            raise ControlPlaneError("\n".join(late))
        self._account.proved(
            f"{len(found)} pods are ready, in {len(ORGANISATIONS)} namespaces at `restricted`"
        )

    def _run(self, besides: list[Document], chosen: Callable[[str], bool]) -> int:
        """Apply documents and the chosen workloads, and wait until these are ready; how many they are."""
        wanted = [doc for doc in rendering.workloads(self.documents) if chosen(str(doc["metadata"]["name"]))]
        self.node.apply([*besides, *wanted], MANAGER)
        pods.roll_out(self.node, wanted, _PODS_SECONDS)
        # A pod is ready a moment before kube-proxy sends its Service's connections there.
        for document in wanted:
            name, organisation = document["metadata"]["name"], document["metadata"]["namespace"]
            where = self.ports.host(organisation, name), self.ports.of(organisation, name)
            self.node.wait(lambda where=where: _accepts(where), f"{where[0]}:{where[1]}", _SERVICE_SECONDS)
        return len(wanted)

    def _accounts_are_there(self) -> bool:
        return all(
            any(found["metadata"]["name"] == "default" for found in self.node.get("serviceaccounts", name))
            for name in ORGANISATIONS
        )


def _accepts(where: tuple[str, int]) -> bool:
    try:
        socket.create_connection(where, 2).close()
    except OSError:
        return False
    return True
