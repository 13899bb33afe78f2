"""A member's OpenTelemetry Collector: takes spans over OTLP, and keeps them in files that people can read."""

from ops.devnet.layout import Home, tool
from ops.devnet.supervision import Program
from ops.devnet.templates import fill, write
from ops.devnet.topology import COLLECTOR, Ports, program_name


def program(home: Home, organisation: str) -> Program:
    """The collector of a member."""
    folder = home.organisation(organisation).collector
    return Program(
        name=program_name(organisation, COLLECTOR),
        argv=[tool("otelcol"), "--config", folder / "otelcol.yaml"],
        directory=folder,
        env={},
    )


def configure(home: Home, organisation: str, ports: Ports) -> None:
    """Write otelcol.yaml."""
    folder = home.organisation(organisation).collector
    write(
        folder / "otelcol.yaml",
        fill(
            "otelcol/otelcol.yaml",
            address=ports.address(organisation, COLLECTOR),
            traces_file=folder / "traces.jsonl",
        ),
    )


def endpoint(ports: Ports, organisation: str) -> str:
    """Where a member's programs send their spans."""
    return f"http://{ports.address(organisation, COLLECTOR)}"


def variables(ports: Ports, organisation: str, name: str) -> dict[str, str]:
    """The same for a program that follows OpenTelemetry's own variables."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint(ports, organisation),
        "OTEL_SERVICE_NAME": f"cbmdhi-{name}",
        "OTEL_RESOURCE_ATTRIBUTES": f"service.namespace={organisation}",
    }
