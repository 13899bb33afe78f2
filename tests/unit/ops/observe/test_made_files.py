"""What is made from the code is what lies in the checkout, and no label can hold a person."""

import json
import re

import pytest

from ops.observe import catalogue, docs, grafana

CLOSED = frozenset(
    (
        *("method", "code", "route", "queue", "kind", "stage", "step", "outcome", "what", "holder"),
        *("certificate", "call", "dependency", "consumer"),
    )
)
"""Labels whose values the code itself holds. Add one only when that is so."""


@pytest.mark.parametrize("path", docs.made(), ids=str)
def test_a_file_made_from_the_code_is_up_to_date(path: object) -> None:
    [text] = [text for made, text in docs.made().items() if made == path]

    assert (docs.ROOT / str(path)).read_text(encoding="utf-8") == text, "run: make observe-docs"


def test_no_dashboard_lies_there_that_the_code_does_not_make() -> None:
    there = {file.relative_to(docs.ROOT) for file in (docs.ROOT / grafana.FOLDER).glob("*.json")}

    assert there == set(grafana.files())


@pytest.mark.parametrize("service", catalogue.SERVICES)
def test_labels_are_of_closed_lists_and_names_say_what_and_in_which_unit(service: str) -> None:
    series = catalogue.of_service(service)

    assert {label for one in series for label in one.labels} <= CLOSED
    for one in series:
        ending = "total" if one.kind == "counter" else "(seconds|bytes|count|items|messages|blocks|bool)"
        assert re.fullmatch(rf"cbmdhi_{service}_[a-z_]*?_?{ending}", one.name), one
        assert one.says[0].isupper() or one.says[0].isdigit(), one


def test_the_catalogue_has_what_every_service_has_and_what_is_its_own() -> None:
    for service in catalogue.SERVICES:
        names = {one.name for one in catalogue.of_service(service)}
        assert f"cbmdhi_{service}_rpc_duration_seconds" in names
        assert f"cbmdhi_{service}_certificate_expiry_timestamp_seconds" in names
    ledger = {one.name: one for one in catalogue.of_service("ledger")}
    assert ledger["cbmdhi_ledger_verdicts_total"].labels == ("code",)
    assert ledger["cbmdhi_ledger_queue_age_seconds"].labels == ("queue",)


def test_grafana_gets_panels_with_ids_of_their_own_that_do_not_overlap() -> None:
    for text in grafana.files().values():
        panels = json.loads(text)["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
        assert all(panel["targets"] for panel in panels)
