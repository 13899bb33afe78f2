"""What an operator's tools say is read as it is meant."""

from tests.cluster import operator_day

EXPOSED = """# HELP cbmdhi_gateway_rpc_requests_total RPCs answered
# TYPE cbmdhi_gateway_rpc_requests_total counter
cbmdhi_gateway_rpc_requests_total{method="Ingest",code="OK"} 3.0
cbmdhi_gateway_rpc_requests_total{method="Read",code="OK"} 2.0
# HELP cbmdhi_gateway_ready_bool 1 when it can do its work
# TYPE cbmdhi_gateway_ready_bool gauge
cbmdhi_gateway_ready_bool 1.0
"""


def test_a_metrics_samples_are_added_up() -> None:
    found = operator_day.totals(EXPOSED)
    assert found["cbmdhi_gateway_rpc_requests_total"] == 5.0
    assert found["cbmdhi_gateway_ready_bool"] == 1.0


def test_what_the_autoscaler_measured_is_told() -> None:
    autoscaler = {
        "spec": {"metrics": [{"resource": {"target": {"averageValue": "50m"}}}]},
        "status": {
            "currentMetrics": [{"type": "Resource", "resource": {"current": {"averageValue": "180m"}}}]
        },
    }
    assert operator_day.described(autoscaler) == "the autoscaler: CPU 180m a pod, wanted 50m"
    for not_yet in ({}, {"currentMetrics": None}):
        assert "unknown" in operator_day.described({**autoscaler, "status": not_yet})
