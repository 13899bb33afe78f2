"""The pages for engines say what the code says: excerpts, codes, limits, steps."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from ast import literal_eval
from importlib import metadata
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol.state_keys import audit_key, record_key
from services.gateway.config import GatewayConfig
from services.identity.config import IdentityConfig
from services.runtime.errors import grpc_status_of
from services.runtime.server import GrpcServer
from tests.e2e import test_engines, test_engines_refused
from tools.docs.excerpts import NoSuchExcerpt, excerpt, named, refreshed
from tools.docs.pages import DOCS, ROOT, pages

INTEGRATE = DOCS / "integrate"
ENGINES = ROOT / "examples" / "engines"
LANGUAGES = ("go", "java", "javascript", "python")
_SETTINGS = {"gateway": GatewayConfig, "identity": IdentityConfig}
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "s": 1, "min": 60}
_MULTIPLIED = re.compile(r"^\s*(?:const\s+)?(\w+)\s*=\s*([\d_*< ]+)$", re.MULTILINE)


def rows(page: str) -> list[list[str]]:
    """The cells of all tables of a page, without their heads."""
    lines = (INTEGRATE / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    heads = [number + 1 for number, row in enumerate(cells[1:]) if set("".join(row)) == {"-"}]
    return [row for number, row in enumerate(cells) if number not in heads and number + 1 not in heads]


def test_excerpts_are_the_code_that_the_tests_run() -> None:
    stale = [page.name for page in pages() if refreshed(page.text) != page.text]
    assert not stale, "run: make excerpts"


def test_each_step_of_the_journey_is_shown_in_each_language() -> None:
    shown: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    for file, name in named((INTEGRATE / "engine.md").read_text(encoding="utf-8")):
        shown[file.split("/")[2]].add(name)
    steps = {
        "sign",
        "detail",
        "enrol",
        "command",
        "register",
        "approval",
        "login",
        "send",
        "resend",
        "settle",
        "receipt",
    }
    assert shown == dict.fromkeys(LANGUAGES, steps | {"proof", "renewal", "stream"})


def test_a_part_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoSuchExcerpt):
        excerpt("examples/engines/go/session.go", "nothing of the kind")


def test_every_code_has_its_meaning_its_status_and_what_to_do() -> None:
    text = (ROOT / "protos/cbmdhi/command/v1/code.proto").read_text(encoding="utf-8")
    enum = text[text.index("enum Code {") :].split("\n}")[0]
    comments = re.findall(r"((?:^ +//.*\n)+) +(CODE_\w+) = ", enum, re.MULTILINE)
    meanings = {
        name: " ".join(line.strip().removeprefix("// ") for line in said.splitlines())
        for said, name in comments
    }
    told = {row[0].strip("`"): row[1:] for row in rows("error-codes.md") if row[0].startswith("`CODE_")}
    assert list(told) == code_pb2.Code.keys()
    for name, (meaning, status, do) in told.items():
        assert meaning == meanings[name]
        assert status == f"`{grpc_status_of(code_pb2.Code.Value(name)).name}`"
        assert do.endswith(".")


def test_every_outcome_has_its_row() -> None:
    told = {row[0].strip("`") for row in rows("error-codes.md") if row[0].startswith("`OUTCOME_")}
    assert told == set(code_pb2.Outcome.keys())


@pytest.mark.parametrize(("what", "number", "where"), rows("limits.md"))
def test_every_limit_is_the_codes(what: str, number: str, where: str) -> None:
    assert told(number, where) == found(where), what


def told(number: str, where: str) -> float:
    """`16 MiB`, `4,000`, `2 min` as the code has it: bytes, seconds, or milliseconds where it says so."""
    value, _, unit = number.replace(",", "").partition(" ")
    return int(value) * _UNITS.get(unit, 1) * (1_000 if where.rstrip("`").endswith("_MS") else 1)


def found(where: str) -> float:
    """The number that a setting has by default, or a constant of Python or Go."""
    if setting := re.fullmatch(r"setting `(\w+)\.(\w+)`", where):
        return _SETTINGS[setting[1]].model_fields[setting[2]].default
    place, _, name = where.strip("`").partition(":")
    if not place.endswith(".go"):
        return getattr(importlib.import_module(place), name)
    constants = dict(_MULTIPLIED.findall((ROOT / place).read_text(encoding="utf-8")))
    factor, _, shift = constants[name].replace("_", "").partition("<<")
    product = 1
    for part in factor.split("*"):
        product *= literal_eval(part.strip())
    return product << int(shift or 0)


def test_the_versions_that_each_language_needs_are_those_of_the_examples() -> None:
    told = versions_told()
    pinned = {
        "Go": go_modules(),
        "Java": maven_artifacts(),
        "JavaScript": json.loads((ENGINES / "javascript" / "package.json").read_text())["dependencies"],
        "Python": python_packages(),
    }
    assert told.keys() == pinned.keys()
    for language, packages in told.items():
        for name, version in packages.items():
            # What is Python's in the row of another language is the test's own protoc.
            by = pinned["Python"] if name == "grpcio-tools" else pinned[language]
            assert version == version_of(name, by), f"{language}: {name}"


@pytest.mark.parametrize(
    ("language", "names"),
    [
        (
            "Go",
            {"google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"},
        ),
        ("Go", {"github.com/hyperledger/fabric-protos-go-apiv2", "grpcio-tools"}),
        ("Java", {"com.google.protobuf:protoc", "io.grpc:protoc-gen-grpc-java"}),
        ("Java", {"org.hyperledger.fabric:fabric-protos"}),
        ("JavaScript", {"@grpc/proto-loader", "protobufjs", "@hyperledger/fabric-protos"}),
        ("Python", {"grpcio-tools", "hyperledger-fabric-protos"}),
    ],
)
def test_generators_and_fabrics_messages_are_named_for_each_language(language: str, names: set[str]) -> None:
    assert names <= versions_told()[language].keys()


def test_the_protoc_that_is_named_is_the_one_in_the_package() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "--version"], capture_output=True, text=True, check=True
    )
    assert metadata.version("grpcio-tools") == version_of("grpcio-tools", python_packages())
    text = (ROOT / "protos" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"libprotoc [\d.]+\d", text)) == {ran.stdout.strip()}


def versions_told() -> dict[str, dict[str, str]]:
    """By language, what the table of protos/README.md names, and the version behind it."""
    text = (ROOT / "protos" / "README.md").read_text(encoding="utf-8")
    table = text.split("\n## Versions\n")[1].split("\n## ")[0]
    told: dict[str, dict[str, str]] = {}
    for language, cells in re.findall(r"^\| (\w+) \|(.+)$", table, re.MULTILINE):
        told.setdefault(language, {}).update(re.findall(r"`([^`]+)` v?(\d[\w.]*\w)", cells))
    return told


def version_of(name: str, pinned: dict[str, str]) -> str:
    """Of a package; in Go of the module that holds it, which is the longest beginning of its name."""
    holding = max((one for one in pinned if f"{name}/".startswith(f"{one}/")), key=len)
    return pinned[holding].removeprefix("v")


def go_modules() -> dict[str, str]:
    """What go.mod requires."""
    text = (ENGINES / "go" / "go.mod").read_text(encoding="utf-8")
    return dict(re.findall(r"^\t(\S+) (v\S+)", text, re.MULTILINE))


def maven_artifacts() -> dict[str, str]:
    """Dependencies of pom.xml, and the programs that its plugin runs, by group and artifact."""
    text = (ENGINES / "java" / "pom.xml").read_text(encoding="utf-8")
    properties = dict(re.findall(r"<([\w.]+\.version)>([^<]+)<", text))
    for name, version in properties.items():
        text = text.replace(f"${{{name}}}", version)
    found = re.findall(
        r"<groupId>(\S+)</groupId>\s*<artifactId>(\S+)</artifactId>\s*<version>(\S+)</version>", text
    )
    programs = re.findall(r"<\w+Artifact>([\w.]+):([\w-]+):([\d.]+):exe:", text)
    return {f"{group}:{artifact}": version for group, artifact, version in [*found, *programs]}


def python_packages() -> dict[str, str]:
    """What requirements.lock pins."""
    text = (ENGINES / "python" / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_the_page_runs_the_programs_and_commands_that_the_tests_run() -> None:
    part = (INTEGRATE / "engine.md").read_text(encoding="utf-8").split("\n## Run them\n")[1]
    for program in test_engines.PROGRAMS.values():
        assert Path(program[-1]).relative_to(ROOT).as_posix() in part
    ran = set(re.findall(r"\$ENGINE ([\w-]+)", part))
    assert ran == {"check-vectors", "keys", "join", "send", "resend"}
    tested = inspect.getsource(test_engines)
    assert {word for word in ran if f'"{word}"' in tested} == ran


def test_the_deadlines_that_are_told_are_those_of_the_programs_and_of_the_gateway() -> None:
    text = (INTEGRATE / "engine.md").read_text(encoding="utf-8")
    part = text.split("\n### Deadlines\n")[1].split("\n### ")[0]
    told = [int(number) for number in re.findall(r"^\|.*?\| (\d+) s", part, re.MULTILINE)]
    gateways = inspect.signature(GrpcServer).parameters["default_deadline_seconds"].default
    assert told == [gateways, GatewayConfig.model_fields["stream_deadline_seconds"].default]
    for folder in (ENGINES / language for language in LANGUAGES):
        for name, seconds in zip(("call", "send"), told, strict=True):
            constant = rf"\b_?{name}_?seconds\s*=\s*{seconds}\b"
            found = [
                file
                for file in folder.rglob("*")
                if file.suffix in (".go", ".java", ".js", ".py")
                and not {".venv", "node_modules", "target", "cbmdhi"} & set(file.relative_to(folder).parts)
                and re.search(constant, file.read_text(encoding="utf-8"), re.IGNORECASE)
            ]
            assert found, f"{folder.name}: {name}"


def test_how_the_programs_end_is_what_their_tests_say() -> None:
    text = (INTEGRATE / "engine.md").read_text(encoding="utf-8").split("\n## Run them\n")[1]
    told = dict(re.findall(r"^\| (\d) \| (.+?) \|", text, re.MULTILINE))
    assert list(told) == ["0", "1", "2", "3"]
    assert "done and proven" in told[str(test_engines_refused.DONE)]
    assert "refused" in told[str(test_engines_refused.REFUSED)]
    assert "no certain answer" in told[str(test_engines_refused.UNANSWERED)]


@pytest.mark.parametrize("language", ["go", "python"])
def test_a_recipe_finds_the_protos_from_an_empty_folder_beside_the_clone(
    language: str, tmp_path: Path
) -> None:
    (tmp_path / "cbmdhi").symlink_to(ROOT)
    own = tmp_path / "own"
    own.mkdir()
    readme = (ROOT / "protos" / "README.md").read_text(encoding="utf-8")
    [first] = re.findall(r"```sh\n(cp \.\./cbmdhi/.+?)```", readme, re.DOTALL)
    recipe = excerpt(f"examples/engines/{language}/build.sh", "recipe")
    # What fetches from a registry is left out; what it would bring is this environment's.
    lines = [line for line in recipe.splitlines() if "pip install" not in line and "go build" not in line]
    script = "\n".join(lines).replace("-m venv .venv", "-c pass").replace(".venv/bin/python", sys.executable)
    environment = {"PATH": os.environ["PATH"], "PROTOC": "echo"}
    command = ["sh", "-eu", "-c", first + script]
    ran = subprocess.run(command, cwd=own, env=environment, capture_output=True, text=True, check=True)
    if language == "python":
        assert (own / "cbmdhi" / "gateway" / "v1" / "gateway_pb2_grpc.py").exists()
    else:
        assert "-I ../cbmdhi/protos --go_out=../cbmdhi/protos/go" in ran.stdout
        assert "cbmdhi/gateway/v1/gateway.proto" in ran.stdout


def test_every_program_and_file_of_the_page_is_there_or_is_built_there() -> None:
    part = (INTEGRATE / "engine.md").read_text(encoding="utf-8").split("\n## Run them\n")[1]
    built = {
        path.relative_to(ROOT).as_posix()
        for program in test_engines.PROGRAMS.values()
        for path in (Path(word) for word in program)
        if path.is_relative_to(ROOT)
    }
    named_there = set(re.findall(r"(?:examples|tests)/[\w./-]+\w", part))
    assert {path for path in named_there if not (ROOT / path).exists()} <= built
    assert named_there & built


def test_the_state_keys_that_prove_a_receipt_are_those_of_the_code() -> None:
    text = (INTEGRATE / "engine.md").read_text(encoding="utf-8")
    part = text.split("\n### The state keys that prove it\n")[1].split("\n## ")[0]
    told = re.findall(r"^\| `(z/\S+)` \|", part, re.MULTILINE)
    assert told == [
        audit_key("<command_id>", "<signer>"),
        record_key("<record_id>", 10).replace("0000000a", "<version>"),
    ]
    assert "version 10 is `0000000a`" in part


def test_a_limit_that_the_code_does_not_have_is_told() -> None:
    assert told("16 MiB", "") == 16 * 1024 * 1024
    assert found("setting `gateway.in_flight_per_stream`") != told("4,001", "")
    assert found("`chaincode/batch/decode.go:MaxCommandBytes`") == 256 << 10
    with pytest.raises(KeyError):
        found("setting `gateway.nothing`")
