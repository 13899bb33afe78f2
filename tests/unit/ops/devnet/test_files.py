"""What the network writes: templates, packages, the supervisor's configuration, state."""

import configparser
import hashlib
import io
import json
import shlex
import tarfile
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cbmdhi.command.v1.state_pb2 import Genesis
from cbmdhi.protocol import consortium, hpke, signature
from ops.devnet import chaincode_package, endpoints, genesis, layout, services, state
from ops.devnet.errors import DevnetError
from ops.devnet.layout import Home
from ops.devnet.supervision import Program, Supervisor
from ops.devnet.templates import fill, write, write_secret
from ops.devnet.topology import SERVICES, Ports


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "a home with 100% spaces")


def test_a_template_whose_value_is_missing_is_not_filled() -> None:
    with pytest.raises(KeyError, match="address"):
        fill("nats/nats.conf", server_name="mercy-nats")


def test_paths_with_spaces_are_quoted_in_templates() -> None:
    text = fill(
        "fabric-ca/server.yaml",
        port=1,
        identity_ca_file=Path("/a home/ca.yaml"),
        operations_address="127.0.0.1:2",
    )
    assert '- "/a home/ca.yaml"' in text


def test_a_secret_is_for_its_owner_from_the_first_moment(home: Home) -> None:
    path = home.path / "secret"
    write_secret(path, "hush")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in home.path.iterdir()] == ["secret"]


def test_the_supervisors_configuration_survives_odd_paths(home: Home) -> None:
    supervisor = Supervisor(home)
    program = Program("mercy-peer", ["/bin/pe er", "--at", "50%"], home.path / "peer", {"KEY": "a=b c"})
    supervisor.configure([program])
    parser = configparser.RawConfigParser()
    parser.read(supervisor.configuration)
    section = parser["program:mercy-peer"]
    assert shlex.split(section["command"].replace("%%", "%")) == ["/bin/pe er", "--at", "50%"]
    assert 'KEY="a=b c"' in section["environment"]
    assert f'CBMDHI_NETWORK_HOME="{home.path}"'.replace("%", "%%") in section["environment"]
    assert section["directory"].replace("%%", "%") == str(home.path / "peer")
    # With this `supervisorctl -c …` finds it.
    assert parser["supervisorctl"]["serverurl"].replace("%%", "%") == f"unix://{supervisor.socket}"


@pytest.mark.parametrize("sign", ['"', "'", ";", ",", "\n"])
def test_a_home_that_no_configuration_can_name_is_refused(tmp_path: Path, sign: str) -> None:
    with pytest.raises(DevnetError, match="--home"):
        layout.home_at(tmp_path / f"odd{sign}home")


def test_the_same_package_has_the_same_id(home: Home) -> None:
    folder = home.organisation("mercy").chaincode / "peer-client"
    for name in ("server.crt", "server.key", "ca.crt"):
        write_secret(folder / name, f"-----{name}-----")
    chaincode_package.make(home, "mercy", Ports(20_000))
    first = chaincode_package.package_id(home, "mercy")
    chaincode_package.make(home, "mercy", Ports(20_000))
    assert chaincode_package.package_id(home, "mercy") == first
    with tarfile.open(chaincode_package.path(home, "mercy")) as package:
        metadata = package.extractfile("metadata.json")
        code = package.extractfile("code.tar.gz")
        assert metadata is not None
        assert code is not None
        assert json.load(metadata)["type"] == "ccaas"
        with tarfile.open(fileobj=io.BytesIO(code.read())) as inner:
            connection = inner.extractfile("connection.json")
            assert connection is not None
            assert json.load(connection)["client_auth_required"] is True


def test_services_are_configured_with_the_fields_of_the_conventions(home: Home) -> None:
    write(home.chaincode_genesis, b"agreed")
    services.configure(home, "lakeside", Ports(20_000))
    for service in SERVICES:
        file = home.organisation("lakeside").service(service) / "config.toml"
        document = tomllib.loads(file.read_text())
        assert document["msp_id"] == "LakesideMSP"
        assert {member["msp_id"] for member in document["tls"]["members"]} == {"MercyMSP", "LakesideMSP"}
        assert document["listen_address"].startswith("127.0.0.1:")
        if service in ("gateway", "identity"):
            assert document["genesis_sha256"] == hashlib.sha256(b"agreed").hexdigest()


def test_what_a_wallet_pins_is_what_the_members_agreed_to(home: Home) -> None:
    """The Genesis has the keys of each member's storage, and its hash is pinned: no service's word."""
    for organisation in home.organisations:
        folders = home.organisation(organisation)
        for path in (folders.ca_certificate, folders.tls_ca_certificate):
            write(path, f"root of {organisation}")
    for member in home.members:
        storage = home.organisation(member).service("storage")
        storage.mkdir(parents=True)
        (storage / "vault.key").write_bytes(hpke.generate()[0])
        private = signature.new_private_key()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (storage / "signing.key").write_bytes(pem)
    genesis.make(home)
    endpoints.write_consortium(home, Ports(20_000))

    agreed = home.chaincode_genesis.read_bytes()
    pinned = consortium.load(home.consortium_file)
    assert pinned.genesis_sha256 == hashlib.sha256(agreed).digest()
    for member in Genesis.FromString(agreed).members:
        mine = pinned.members[member.msp]
        assert mine.storage_signing_key == member.storage_signing_key != b""
        assert (mine.vault_public_key, mine.ca_pem) == (member.vault_public_key, member.ca_certificates_pem)


def test_state_is_read_as_it_was_saved(home: Home) -> None:
    assert state.read(home) is None
    saved = state.State(state.VERSION, 20_000, complete=True, members=3)
    state.save(home, saved)
    assert state.read(home) == saved


@pytest.mark.parametrize("text", ["", "{}", '{"version": 99, "base_port": 1, "complete": true}'])
def test_a_damaged_or_foreign_state_is_told_with_the_remedy(home: Home, text: str) -> None:
    home.path.mkdir()
    home.state_file.write_text(text)
    with pytest.raises(DevnetError, match="cbmdhi clean --home"):
        state.read(home)
