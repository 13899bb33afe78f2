"""What an answer names is where callers reach it, and they may have called it in each of the ways in."""

from services.gateway.domain.origin import Origins


def test_an_answer_names_the_public_address_and_a_call_may_have_come_by_each() -> None:
    origins = Origins("https://mercy.example/mesh", ("https://10.0.0.7:8443",))

    assert origins.url("/fhir/Patient") == "https://mercy.example/mesh/fhir/Patient"
    assert origins.urls("/fhir/Patient") == (
        "https://mercy.example/mesh/fhir/Patient",
        "https://10.0.0.7:8443/fhir/Patient",
    )
    assert Origins("https://mercy.example").urls("/") == ("https://mercy.example/",)
