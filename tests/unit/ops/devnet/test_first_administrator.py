"""An invitation whose secret was lost is given again; nobody gets another role by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from ops.devnet import first_administrator

ADDRESS = "cb1" + "a" * 32

# As fabric-ca-client 1.5 prints it: a secret for each id, and what an id is.
_PROGRAM = """#!/bin/sh
known=$(dirname "$0")/known
case "$*" in
"register "*)
    [ -e "$known" ] && {{ echo "Error: Response from server: Error Code: {taken} - x" >&2; exit 1; }}
    echo "$@" > "$known";;
"identity "*" list --id "*)
    echo "Name: x, Type: signer, Affiliation: , Max Enrollments: -1, Attributes: [" \\
        "{{Name:hf.Type Value:signer ECert:true}} {{Name:cbmdhi.role Value:{role} ECert:true}}]";;
"identity "*" modify "*) echo "$@" > "$known";;
*) exit 3;;
esac
"""


def _ca(folder: Path, role: str = "administrator", taken: int = 74) -> Path:
    program = folder / "fabric-ca-client"
    program.write_text(_PROGRAM.format(role=role, taken=taken))
    program.chmod(0o755)
    return program


def _invite(program: Path) -> str:
    (program.parent / "file").write_text("")
    registrar = dict.fromkeys(("certificate_file", "key_file", "tls_file"), str(program.parent / "file"))
    registrar |= {"fabric_ca_url": "https://127.0.0.1:1", "ca_name": "ca"}
    return first_administrator.invite(registrar, program, ADDRESS, pb.ROLE_ADMINISTRATOR)


def test_who_is_invited_again_gets_a_new_secret(tmp_path: Path) -> None:
    program = _ca(tmp_path)
    first = _invite(program)
    assert f"--id.secret {first}" in (tmp_path / "known").read_text()
    second = _invite(program)
    assert second != first
    asked = (tmp_path / "known").read_text()
    assert f"modify {ADDRESS} --secret {second}" in asked


def test_who_is_known_in_another_role_is_not_invited(tmp_path: Path) -> None:
    program = _ca(tmp_path, role="clinician")
    _invite(program)
    before = (tmp_path / "known").read_text()
    with pytest.raises(MeshError, match="another role") as caught:
        _invite(program)
    assert caught.value.code == code_pb2.CODE_CONFLICT
    assert (tmp_path / "known").read_text() == before


def test_another_error_of_the_ca_is_no_invitation(tmp_path: Path) -> None:
    program = _ca(tmp_path, taken=71)
    _invite(program)
    with pytest.raises(MeshError) as caught:
        _invite(program)
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
