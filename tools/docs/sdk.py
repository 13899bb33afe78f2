"""Pages of the SDK: which classes and modules somebody who uses it meets. What they say is in the code."""

from __future__ import annotations

# title and what is shown on each page
_PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "client": (
        "Client and wallet",
        "Where everything begins: a wallet holds the keys, a client speaks for it at one member's gateway.",
        ("cbmdhi.client.Client", "cbmdhi.wallet.Wallet"),
    ),
    "records": (
        "Records",
        "`client.records`: put, read, list.",
        (
            "cbmdhi.client.records.Records",
            "cbmdhi.client.new_record.NewRecord",
            "cbmdhi.client.new_record.Prepared",
            "cbmdhi.client.written.Written",
            "cbmdhi.client.reading.Reading",
        ),
    ),
    "resending": (
        "Sending again",
        "`client.resend` and `client.outbox`: what was signed and is not known to be done.",
        ("cbmdhi.client.outbox.Outbox", "cbmdhi.client.outbox.Resends"),
    ),
    "consents": ("Consents", "`client.consents`.", ("cbmdhi.client.consents",)),
    "registration": (
        "Registration and review",
        "`client.registration`: enrol, register, review, suspend.",
        ("cbmdhi.client.registration.Registration",),
    ),
    "trail": (
        "Trail and inbox",
        "`client.trail` and `client.inbox`: what was done, and the news of it.",
        ("cbmdhi.client.trail.Trail", "cbmdhi.client.inbox.Inbox"),
    ),
    "emergency": (
        "Emergency access",
        "`client.emergency`: without a majority of the members.",
        ("cbmdhi.client.emergency",),
    ),
    "rest": ("FHIR over REST", "`client.fhir()`.", ("cbmdhi.client.rest.FhirSession",)),
    "outbox": (
        "Outbox",
        "`client.outbox` and `client.resend`: what was signed and is not known to be done.",
        ("cbmdhi.client.outbox.Outbox", "cbmdhi.client.outbox.Kept"),
    ),
    "errors": ("Errors", "Everything that the SDK raises.", ("cbmdhi.errors",)),
}


def pages() -> dict[str, str]:
    """Each page in Markdown, by its name."""
    return {
        name: f"# {title}\n\n{what}\n\n" + "\n\n".join(_shown(one) for one in shown) + "\n"
        for name, (title, what, shown) in _PAGES.items()
    }


def _shown(name: str) -> str:
    # `Records` is made of two classes: one that writes and one that reads.
    return f"::: {name}" + (
        "\n    options:\n      inherited_members: true" if name.endswith(".Records") else ""
    )
