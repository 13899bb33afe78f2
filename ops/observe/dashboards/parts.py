"""What several dashboards share."""

from __future__ import annotations

from ops.observe.panels import Dashboard, Panel, mean, panel, quantile, rate

GATEWAY, LEDGER, STORAGE, IDENTITY, NOTIFY = (
    f"cbmdhi_{name}" for name in ("gateway", "ledger", "storage", "identity", "notify")
)
BY = "{{organisation}} "
FAULT = "only when something goes wrong"


def service(name: str, *own: Panel) -> Dashboard:
    """What every service has: rate, errors and duration of its RPCs, queues, process; then its own."""
    series = f"cbmdhi_{name}"
    alike = (
        panel(
            "RPCs answered",
            "reqps",
            rate(f"{series}_rpc_requests_total", "method"),
            legend=BY + "{{method}}",
        ),
        panel(
            "RPCs not answered with OK",
            "reqps",
            rate(f'{series}_rpc_requests_total{{code!="OK"}}', "method", "code"),
            legend=BY + "{{method}} {{code}}",
            rests=FAULT,
        ),
        panel(
            "RPC duration, p95",
            "s",
            quantile(0.95, f"{series}_rpc_duration_seconds", "method"),
            legend=BY + "{{method}}",
        ),
        panel("RPCs under way", "short", f"sum by (organisation) ({series}_rpc_running_count)"),
        panel("Ready", "bool", f"{series}_ready_bool"),
        panel("CPU", "short", f'rate(process_cpu_seconds_total{{service="{name}"}}[$__rate_interval])'),
        panel("Memory", "bytes", f'process_resident_memory_bytes{{service="{name}"}}'),
        panel("Open files", "short", f'process_open_fds{{service="{name}"}}'),
    )
    return Dashboard(name, f"Service: {name}", (*own, *alike))


def dependencies(name: str) -> Panel:
    """Services of the mesh that a service calls."""
    return panel(
        "Services that it calls: ready",
        "bool",
        f"cbmdhi_{name}_dependency_ready_bool",
        legend=BY + "{{dependency}}",
    )


def queues(name: str) -> tuple[Panel, ...]:
    """Of every queue of a service."""
    series, legend = f"cbmdhi_{name}", BY + "{{queue}}"
    return (
        panel("Queue: items", "short", f"{series}_queue_items", legend=legend),
        panel("Queue: age of the oldest", "s", f"{series}_queue_age_seconds", legend=legend),
        panel(
            "Queue: wait, p95", "s", quantile(0.95, f"{series}_queue_wait_seconds", "queue"), legend=legend
        ),
        panel("Items a batch, mean", "short", mean(f"{series}_batch_items", "queue"), legend=legend),
        panel("Refused: queue full", "reqps", rate(f"{series}_queue_refused_total", "queue"), legend=legend),
    )
