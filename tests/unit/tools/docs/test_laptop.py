"""What the page for a laptop has written into files is taken by what reads it."""

import re
import subprocess
from pathlib import Path

import pytest

from cbmdhi import fhir
from cbmdhi.cli import shared
from cbmdhi.client.new_record import NewRecord, put_record
from cbmdhi.errors import MeshError
from cbmdhi.protocol import address as addresses
from services.gateway.domain import contents
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.fhir.schema_loader import load_checker
from services.identity.domain.registration import MAX_EVIDENCE_BYTES
from tools.docs.pages import DOCS, ROOT, Page, pages

_WRITTEN = re.compile(
    r"(?:^cat > |--(?:plot|picture|evidence) |\$ENGINE (?:keys|join|send|resend) |^cbmdhi .* -o )([\w./-]+)",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page's block that writes files was typed. It calls nothing of ours."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / ".devnet").mkdir()
    [block] = [one.text for one in Page(DOCS / "laptop.md").blocks if "/person.json <<" in one.text]
    script = f'set -eu\n{block}printf %s "$ADDRESS" > address'
    subprocess.run(["bash", "-c", script], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def checker() -> ResourceChecker:
    return load_checker()[0]


def test_what_the_pages_have_written_in_the_clone_is_nothing_new_to_git() -> None:
    written = [
        (page.name, path)
        for page in pages()
        # Examples there are of files of the reader's own, typed anywhere.
        if page.name != "docs/cli.md"
        for block in page.blocks
        for path in _WRITTEN.findall(block.text)
    ]
    assert len({path for _, path in written}) > 3
    for page, path in written:
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0
        assert ignored, f"{page}: {path}"


def test_the_person_by_whom_reviewers_know_the_patient_is_a_json_object(typed: Path) -> None:
    raw, person = shared.json_object(typed / ".devnet" / "person.json")
    assert person["birthDate"]
    assert len(raw) < MAX_EVIDENCE_BYTES


def test_the_observation_is_a_record_of_that_patient_and_the_gateway_takes_it(
    typed: Path, checker: ResourceChecker
) -> None:
    patient = (typed / "address").read_text()
    assert addresses.is_address(patient)
    writes = fhir.writes_of(shared.json_object(typed / ".devnet" / "obs.json")[0], patient)
    [record] = writes.records
    contents.check(*put_record(record), checker)
    assert record.patient == patient


def test_an_observation_about_somebody_else_is_not_taken(typed: Path) -> None:
    other = "cb1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
    with pytest.raises(MeshError, match="names the patient of the record"):
        put_record(NewRecord.of(other, (typed / ".devnet" / "obs.json").read_bytes()))
