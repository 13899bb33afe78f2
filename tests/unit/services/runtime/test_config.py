from pathlib import Path

import pytest

from services.runtime.config import Nats, ServiceConfig
from tests.support.pki import Consortium


class NotifyLike(ServiceConfig):
    service_name = "notifylike"

    ledger_address: str = ""
    nats: Nats | None = None


def write(folder: Path, more: str = "", *, consortium: Consortium | None = None) -> Path:
    tls = (consortium or Consortium(folder / "pki")).tls("notifylike")
    members = "".join(
        f'[[tls.members]]\nmsp_id = "{member.msp_id}"\nca_file = "{member.ca_file}"\n'
        for member in tls.members
    )
    file = folder / "config.toml"
    file.write_text(
        'organisation = "mercy"\nmsp_id = "MercyMSP"\nchannel = "cbmdhi"\n'
        'listen_address = "127.0.0.1:7411"\nmetrics_address = "127.0.0.1:7412"\n'
        f"{more}\n"
        f'[tls]\ncertificate_file = "{tls.certificate_file}"\nkey_file = "{tls.key_file}"\n{members}',
        encoding="utf-8",
    )
    return file


def refusal(file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        NotifyLike.load(["--config", str(file)])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_a_file_is_read_and_never_changes(tmp_path: Path) -> None:
    config = NotifyLike.load(["--config", str(write(tmp_path))])

    assert config.organisation == "mercy"
    assert config.drain_seconds == 10.0
    assert [member.msp_id for member in config.tls.members] == ["MercyMSP", "LakesideMSP"]
    with pytest.raises(ValueError, match="frozen"):
        config.organisation = "lakeside"


def test_the_environment_overrides_the_file_also_inside_a_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "drain_seconds = 3")
    other_key = tmp_path / "other.key"
    other_key.write_bytes((tmp_path / "pki" / "mercy" / "notifylike.key").read_bytes())
    monkeypatch.setenv("CBMDHI_NOTIFYLIKE_DRAIN_SECONDS", "7.5")
    monkeypatch.setenv("CBMDHI_NOTIFYLIKE_TLS__KEY_FILE", str(other_key))

    config = NotifyLike.load(["--config", str(file)])

    assert config.drain_seconds == 7.5
    assert config.tls.key_file == other_key
    assert config.tls.certificate_file.is_file()


def test_an_unknown_key_is_named_with_its_file_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "listen_adress = 'x'")

    said = refusal(file, capsys)

    assert "listen_adress" in said
    assert str(file) in said
    assert "remove it" in said


def test_an_environment_variable_that_names_no_field_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMDHI_NOTIFYLIKE_LISTEN_ADRESS", "x")

    assert "CBMDHI_NOTIFYLIKE_LISTEN_ADRESS" in refusal(write(tmp_path), capsys)


def test_a_section_in_the_environment_that_is_not_json_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBMDHI_NOTIFYLIKE_TLS", "{not json")

    assert "JSON" in refusal(write(tmp_path), capsys)


def test_a_missing_key_file_is_named_with_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace("notifylike.key", "lost.key"), encoding="utf-8")

    said = refusal(file, capsys)

    assert "tls.key_file" in said
    assert "lost.key is not there" in said
    assert "CBMDHI_NOTIFYLIKE_TLS__KEY_FILE" in said


def test_a_missing_field_and_a_bad_address_are_told_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path)
    text = file.read_text(encoding="utf-8").replace('channel = "cbmdhi"\n', "")
    file.write_text(text.replace("127.0.0.1:7411", "7411"), encoding="utf-8")

    said = refusal(file, capsys)

    assert "channel is missing" in said
    assert "host:port" in said


def test_a_file_that_is_not_toml_or_not_there_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("a = = 1", encoding="utf-8")

    assert "is not TOML" in refusal(broken, capsys)
    assert "cannot be read" in refusal(tmp_path / "nowhere.toml", capsys)


def test_a_key_of_another_certificate_is_said_with_both_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    consortium = Consortium(tmp_path / "pki")
    file = write(tmp_path, consortium=consortium)
    other = consortium.members["mercy"].issue("ledger")
    (tmp_path / "pki" / "mercy" / "notifylike.key").write_bytes(other.key_file.read_bytes())

    said = refusal(file, capsys)

    assert "notifylike.key is not the key of" in said
    assert "notifylike.pem" in said


@pytest.mark.parametrize(
    ("organisation", "service", "why"),
    [
        ("mercy", "ledger", "is the certificate of ledger, not of notifylike"),
        ("lakeside", "notifylike", "was not issued by this member's TLS CA"),
    ],
)
def test_the_certificate_of_another_service_or_member_is_refused_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], organisation: str, service: str, why: str
) -> None:
    consortium = Consortium(tmp_path / "pki")
    file = write(tmp_path, consortium=consortium)
    other = consortium.members[organisation].issue(service)
    own = tmp_path / "pki" / "mercy"
    (own / "notifylike.key").write_bytes(other.key_file.read_bytes())
    (own / "notifylike.pem").write_bytes(other.certificate_file.read_bytes())

    assert why in refusal(file, capsys)


def test_what_is_no_certificate_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path)
    (tmp_path / "pki" / "lakeside" / "ca.pem").write_text("not PEM", encoding="utf-8")

    said = refusal(file, capsys)

    assert "tls.members.1.ca_file" in said
    assert "holds no certificate in PEM" in said
