"""Lists: the patient sees all; anybody else what they may search, and nothing about the rest."""

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.gateway.v1.gateway_pb2 import ListRecordsRequest, ListRecordsResponse
from services.gateway.domain.paging import PageTokens
from services.gateway.domain.session import CERTIFICATE, Session
from services.gateway.reads.search import Search
from services.runtime.errors import MeshError
from tests.support.fakes.gateway_neighbours import FakeLedger
from tests.support.fakes.gateway_people import Person

PATIENT, READER = Person(role=Role.ROLE_PATIENT), Person(role=Role.ROLE_CLINICIAN)


def session(person: Person) -> Session:
    return Session(person.address, "clinician", "MercyMSP", "t", CERTIFICATE, "x", 1 << 40)


class Shelf:
    """Records of one patient, of which the reader may search every third."""

    def __init__(self, count: int) -> None:
        self.ledger = FakeLedger()
        self.search = Search(self.ledger, PageTokens(b"secret"))
        for number in range(count):
            one = RecordVersion(record_id=f"r{number}", version=1, patient=PATIENT.address, category="other")
            self.ledger.records_kept[one.record_id, 1] = one
        self.ledger.searchable = {f"r{number}" for number in range(0, count, 3)}

    async def page(self, person: Person = READER, **asked: object) -> ListRecordsResponse:
        fields = {"patient": PATIENT.address, "purpose": "TREAT", **asked}
        return await self.search.records(ListRecordsRequest(**fields), session(person))  # type: ignore[arg-type]

    async def pages(self, size: int) -> list[ListRecordsResponse]:
        found, token = [], ""
        while True:
            found.append(await self.page(page_size=size, page_token=token))
            token = found[-1].next_page_token
            if not token:
                return found


async def test_the_patient_sees_all_and_nobody_is_asked_about_it() -> None:
    shelf = Shelf(20)

    page = await shelf.page(PATIENT, purpose="PATRQT")

    assert len(page.records) == 20
    assert not shelf.ledger.explained


@pytest.mark.parametrize("size", [1, 7, 100, 400])
async def test_others_get_every_record_they_may_search_once_on_full_pages(size: int) -> None:
    shelf = Shelf(1_300)

    pages = await shelf.pages(size)

    names = [record.record_id for page in pages for record in page.records]
    assert sorted(names) == sorted(shelf.ledger.searchable)
    assert all(len(page.records) == size for page in pages[:-1])
    assert pages[-1].records  # no page that is empty: it would tell that something else is there
    assert {item.action for item in shelf.ledger.explained} == {"search"}


async def test_all_versions_are_listed_for_who_may_see_the_history() -> None:
    shelf = Shelf(6)

    page = await shelf.page(all_versions=True)

    assert len(page.records) == 2
    assert {item.action for item in shelf.ledger.explained} == {"history"}


async def test_who_may_search_nothing_learns_no_more_than_about_a_patient_who_is_not_there() -> None:
    full, empty = Shelf(900), Shelf(0)
    full.ledger.searchable = set()

    assert (await full.page()) == (await empty.page()) == ListRecordsResponse()


async def test_tokens_tell_nothing_and_fit_one_caller_and_question_alone() -> None:
    shelf = Shelf(900)
    token = (await shelf.page(page_size=1)).next_page_token
    further = (await shelf.page(page_size=1, page_token=token)).next_page_token
    assert len(token) == len(further)

    other = Person(role=Role.ROLE_CLINICIAN)
    misuses: list[tuple[Person, dict[str, object]]] = [
        (other, {}),
        (READER, {"purpose": "HRESCH"}),
        (READER, {"category": "other"}),
        (READER, {"page_token": token[:-2] + "AA"}),
        (READER, {"page_token": "é"}),
        (READER, {"page_token": "500"}),
    ]
    for person, asked in misuses:
        with pytest.raises(MeshError) as caught:
            await shelf.page(person, **{"page_token": token, **asked})
        assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "page_token")


@pytest.mark.parametrize(
    ("asked", "path"),
    [({"patient": "x"}, "patient"), ({"category": "gossip"}, "category"), ({"purpose": ""}, "purpose")],
)
async def test_a_question_that_makes_no_sense_names_the_field(asked: dict[str, object], path: str) -> None:
    with pytest.raises(MeshError) as caught:
        await Shelf(1).page(**asked)
    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, path)
