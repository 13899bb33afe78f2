"""What an operator brings has the names and keys by which the manifests ask for it."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.devnet import chaincode_package
from ops.devnet.layout import Home
from ops.devnet.topology import MEMBERS, ORDERING, ORGANISATIONS
from tests.cluster import secrets
from tests.unit.ops.manifests.manifests import all_workloads, container, of_kind, pod


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An operator's folder with something in every file."""
    made = Home(tmp_path / "operator")
    for organisation in ORGANISATIONS:
        folders = made.organisation(organisation)
        named = [
            path for files in secrets.secret_files(made, organisation).values() for path in files.values()
        ]
        for path in [*named, folders.ca_certificate, folders.tls_ca_certificate]:
            _write(path, f"{organisation} {path.name}")
        _write(folders.ipfs / "config", json.dumps({"Identity": {"PeerID": f"id-of-{organisation}"}}))
        _write(chaincode_package.path(made, organisation), f"package of {organisation}")
    _write(made.chaincode_genesis, "agreed")
    return made


@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_every_secret_that_a_pod_mounts_is_made_with_the_keys_it_looks_for(
    home: Home, organisation: str
) -> None:
    made = {name: set(files) for name, files in secrets.secret_files(home, organisation).items()}
    made["ca-config"] = {"ca.yaml", "tlsca.yaml"}
    # No pod's: the operator's Prometheus reads it by way of its ServiceMonitor.
    assert made.pop("tls-monitoring") == {"tls.crt", "tls.key", "ca.crt"}
    asked: dict[str, set[str]] = {}
    for name, keys in _asked(organisation, "secret", "secretName"):
        asked.setdefault(name, set()).update(keys)
    assert asked.keys() == made.keys()
    for name, keys in asked.items():
        assert keys <= made[name], name


@pytest.mark.parametrize("organisation", MEMBERS)
def test_every_config_map_that_kustomize_does_not_make_is_made(home: Home, organisation: str) -> None:
    made = secrets.config_maps(home, organisation)
    rendered = {
        document["metadata"]["name"]
        for document in of_kind("laptop", "ConfigMap")
        if document["metadata"]["namespace"] == organisation
    }
    asked: dict[str, set[str]] = {}
    for name, keys in [*_asked(organisation, "configMap", "name"), *_referred(organisation)]:
        if name not in rendered:
            asked.setdefault(name, set()).update(keys)
    assert asked.keys() == made.keys()
    for name, keys in asked.items():
        assert keys <= made[name].keys(), name


def test_the_documents_hold_what_the_files_hold(home: Home) -> None:
    documents = {doc["metadata"]["name"]: doc for doc in secrets.documents(home, "mercy")}
    assert base64.b64decode(documents["tls-gateway"]["data"]["tls.key"]) == b"mercy server.key"
    assert documents["consortium"]["data"]["LakesideMSP-tls.pem"] == "lakeside ca-cert.pem"
    [peer] = json.loads(documents["consortium"]["data"]["ipfs-peers"])
    assert peer == {"ID": "id-of-lakeside", "Addrs": ["/dns4/ipfs.lakeside.svc.cluster.local/tcp/4001"]}
    assert documents["chaincode-release"]["data"]["package-id"].startswith("cbmdhi_1:")
    assert all(doc["metadata"]["namespace"] == "mercy" for doc in documents.values())
    assert not secrets.config_maps(home, ORDERING)


def test_the_ca_finds_its_other_half_where_its_pod_has_it() -> None:
    data = secrets.ca_config("mercy", "hush")["data"]
    server = yaml.safe_load(base64.b64decode(data["tlsca.yaml"]))
    [document] = [
        doc
        for doc in all_workloads("laptop")
        if (doc["metadata"]["namespace"], doc["metadata"]["name"]) == ("mercy", "ca")
    ]
    mounts = {mount.get("subPath"): mount["mountPath"] for mount in container(document)["volumeMounts"]}
    assert server["cafiles"] == [mounts["ca.yaml"]]
    assert Path(mounts["ca.yaml"]).parent == secrets.CA_FOLDER / "ca"
    assert server["registry"]["identities"][0]["pass"] == "hush"


def _asked(namespace: str, kind: str, field: str) -> list[tuple[str, set[str]]]:
    """Names of mounted volumes of a kind, with the keys that something names below the mount."""
    found: list[tuple[str, set[str]]] = []
    for document in all_workloads("laptop"):
        if document["metadata"]["namespace"] != namespace:
            continue
        text = json.dumps(document) + json.dumps(_configuration(document))
        for volume in pod(document)["volumes"]:
            if kind not in volume:
                continue
            source = volume[kind]
            if "items" in source:
                keys = {item["key"] for item in source["items"]}
            else:
                keys = _keys(text, [m for m in _mounts(document) if m["name"] == volume["name"]])
            found.append((source[field], keys))
    return found


def _keys(text: str, mounts: list[dict[str, Any]]) -> set[str]:
    keys = {mount["subPath"] for mount in mounts if "subPath" in mount}
    for mount in mounts:
        if "subPath" not in mount:
            keys |= set(re.findall(re.escape(mount["mountPath"]) + r"/([A-Za-z0-9_.-]+)", text))
    return keys


def _mounts(document: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [*pod(document)["containers"], *pod(document).get("initContainers", [])]
    return [mount for part in parts for mount in part["volumeMounts"]]


def _referred(namespace: str) -> list[tuple[str, set[str]]]:
    return [
        (reference["name"], {reference["key"]})
        for document in all_workloads("laptop")
        if document["metadata"]["namespace"] == namespace
        for part in [*pod(document)["containers"], *pod(document).get("initContainers", [])]
        for variable in part.get("env", [])
        if (reference := variable.get("valueFrom", {}).get("configMapKeyRef"))
    ]


def _configuration(document: dict[str, Any]) -> list[dict[str, str]]:
    """The ConfigMaps that a workload mounts or takes variables from, of those that are rendered."""
    named = json.dumps(document)
    return [
        found["data"]
        for found in of_kind("laptop", "ConfigMap")
        if found["metadata"]["namespace"] == document["metadata"]["namespace"]
        and f'"{found["metadata"]["name"]}"' in named
    ]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
