"""When the certificates of a service expire."""

from pathlib import Path

from prometheus_client import Gauge

from services.runtime.certificates import certificates_in
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics


def note_expiry(metrics: Metrics, certificate: str, file: Path) -> None:
    """Show when the certificate in the PEM file ends, by what it is for: `tls`, `fabric`, `registrar`, …

    Read once, since a service uses the certificate that it loaded at its start.
    Raises MeshError INVALID when it is no certificate.
    """
    try:
        ends = certificates_in(file)[0].not_valid_after_utc
    except ValueError as exc:
        raise MeshError.invalid(str(exc)) from exc
    expiry_gauge(metrics).labels(certificate).set(ends.timestamp())


def expiry_gauge(metrics: Metrics) -> Gauge:
    """Unix time of the end, by certificate."""
    return metrics.gauge(
        "certificate_expiry", "timestamp_seconds", "Unix time at which a certificate ends", ("certificate",)
    )
