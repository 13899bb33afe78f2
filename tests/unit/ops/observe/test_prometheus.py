"""Finding what to scrape, and reading queries, without a Prometheus."""

from bench.observe import plots
from ops.observe import scrape
from ops.observe.panels import quantile, rate
from ops.observe.prometheus import _selectors, windowed

ENDPOINTS = {
    "organisations": {
        "mercy": {
            "services": {"ledger": {"metrics": "http://127.0.0.1:7412"}},
            "peer": {"operations": "https://127.0.0.1:7404"},
            "monitoring": {"ca_file": "ca", "certificate_file": "certificate", "key_file": "key"},
            "ca": {"operations": "http://127.0.0.1:7401"},
            "ipfs": {"rpc": "http://127.0.0.1:7407"},
        },
        "ordering": {
            "orderer": {"operations": "https://127.0.0.1:7454"},
            "monitoring": {"ca_file": "ca", "certificate_file": "certificate", "key_file": "key"},
            "ca": {"operations": "http://127.0.0.1:7451"},
        },
    }
}


def test_every_program_that_tells_of_itself_is_a_target_with_its_organisation() -> None:
    found = scrape.targets(ENDPOINTS)

    assert found["cbmdhi"] == [
        {"targets": ["127.0.0.1:7412"], "labels": {"organisation": "mercy", "service": "ledger"}}
    ]
    assert [group["labels"]["organisation"] for group in found["fabric-ca"]] == ["mercy", "ordering"]
    assert {job: len(groups) for job, groups in found.items()} == {
        "cbmdhi": 1,
        "fabric-ca": 2,
        "ipfs": 1,
    }


def test_peers_and_orderers_are_scraped_with_a_certificate_of_their_organisation() -> None:
    jobs = scrape.jobs_of_fabric(ENDPOINTS)

    assert [job["static_configs"][0]["targets"] for job in jobs] == [["127.0.0.1:7404"], ["127.0.0.1:7454"]]
    assert [job["relabel_configs"][0]["replacement"] for job in jobs] == ["fabric-peer", "fabric-orderer"]
    for job in jobs:
        assert job["scheme"] == "https"
        assert job["tls_config"] == {
            "ca_file": "ca",
            "cert_file": "certificate",
            "key_file": "key",
            "server_name": "localhost",
        }


def test_a_query_is_written_once_for_grafana_and_evaluated_with_a_window() -> None:
    assert rate("x_total", "code") == "sum by (organisation, code) (rate(x_total[$__rate_interval]))"
    assert windowed(quantile(0.95, "x_seconds", match='a="b"'), "30s") == (
        'histogram_quantile(0.95, sum by (organisation, le) (rate(x_seconds_bucket{a="b"}[30s])))'
    )


def test_a_legend_takes_the_labels_of_its_series() -> None:
    assert (
        plots.named("{{organisation}} {{code}} p95", {"organisation": "mercy", "code": "OK"})
        == "mercy OK p95"
    )
    assert plots.named("{{organisation}}", {}) == ""


def test_the_selectors_of_an_expression_are_found_at_any_depth() -> None:
    up = {
        "type": "vectorSelector",
        "name": "up",
        "matchers": [{"name": "__name__", "type": "=", "value": "up"}],
    }
    tree = {"type": "binaryExpr", "lhs": up, "rhs": {"type": "call", "args": [{"type": "numberLiteral"}, up]}}

    assert list(_selectors(tree)) == ['{__name__="up"}', '{__name__="up"}']
