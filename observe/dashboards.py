"""The dashboards: written here, made into JSON by `make observe-docs`, evaluated by a test."""

from __future__ import annotations

from observe.panels import Dashboard, Panel, Query, mean, panel, quantile, rate
from observe.slo import OBJECTIVES

_G, _L, _S, _I, _N = (f"cbmdhi_{name}" for name in ("gateway", "ledger", "storage", "identity", "notify"))
_BY = "{{organisation}} "
_FAULT = "only when something goes wrong"


def _service(name: str, *own: Panel) -> Dashboard:
    """What every service has: rate, errors and duration of its RPCs, queues, process; then its own."""
    series = f"cbmdhi_{name}"
    alike = (
        panel(
            "RPCs answered",
            "reqps",
            rate(f"{series}_rpc_requests_total", "method"),
            legend=_BY + "{{method}}",
        ),
        panel(
            "RPCs not answered with OK",
            "reqps",
            rate(f'{series}_rpc_requests_total{{code!="OK"}}', "method", "code"),
            legend=_BY + "{{method}} {{code}}",
            rests=_FAULT,
        ),
        panel(
            "RPC duration, p95",
            "s",
            quantile(0.95, f"{series}_rpc_duration_seconds", "method"),
            legend=_BY + "{{method}}",
        ),
        panel("RPCs under way", "short", f"sum by (organisation) ({series}_rpc_running_count)"),
        panel("Ready", "bool", f"{series}_ready_bool"),
        panel("CPU", "short", f'rate(process_cpu_seconds_total{{service="{name}"}}[$__rate_interval])'),
        panel("Memory", "bytes", f'process_resident_memory_bytes{{service="{name}"}}'),
        panel("Open files", "short", f'process_open_fds{{service="{name}"}}'),
    )
    return Dashboard(name, f"Service: {name}", (*own, *alike))


def _queues(name: str) -> tuple[Panel, ...]:
    series, legend = f"cbmdhi_{name}", _BY + "{{queue}}"
    return (
        panel("Queue: items", "short", f"{series}_queue_items", legend=legend),
        panel("Queue: age of the oldest", "s", f"{series}_queue_age_seconds", legend=legend),
        panel(
            "Queue: wait, p95", "s", quantile(0.95, f"{series}_queue_wait_seconds", "queue"), legend=legend
        ),
        panel("Items a batch, mean", "short", mean(f"{series}_batch_items", "queue"), legend=legend),
        panel("Refused: queue full", "reqps", rate(f"{series}_queue_refused_total", "queue"), legend=legend),
    )


OVERVIEW = Dashboard(
    "overview",
    "Consortium: throughput, latency, verdicts",
    (
        panel(
            "Records committed",
            "reqps",
            rate(f'{_G}_submission_seconds_count{{kind="records"}}'),
        ),
        panel(
            "Accesses decided",
            "reqps",
            rate(f"{_G}_access_decisions_total", "kind", "code"),
            legend=_BY + "{{kind}} {{code}}",
        ),
        panel(
            "From arrival to receipt, p50 and p95",
            "s",
            Query(quantile(0.5, f"{_G}_submission_seconds", "kind"), _BY + "{{kind}} p50"),
            Query(quantile(0.95, f"{_G}_submission_seconds", "kind"), _BY + "{{kind}} p95"),
        ),
        panel("Verdicts", "reqps", rate(f"{_L}_verdicts_total", "code"), legend=_BY + "{{code}}"),
        panel(
            "Steps of a transaction, p95",
            "s",
            quantile(0.95, f"{_L}_step_duration_seconds", "step"),
            legend=_BY + "{{step}}",
        ),
        panel("Blocks", "short", 'ledger_blockchain_height{job="fabric-peer"}'),
        panel(
            "Transactions a second",
            "reqps",
            rate("ledger_transaction_count", "validation_code"),
            legend=_BY + "{{validation_code}}",
        ),
        panel("Batches colliding", "reqps", rate(f"{_L}_conflicts_total")),
        panel("Programs that answer", "short", "sum by (job, organisation) (up)", legend=_BY + "{{job}}"),
        panel("Event age, p95", "s", quantile(0.95, f"{_N}_events_age_seconds")),
    ),
)

GATEWAY = _service(
    "gateway",
    panel(
        "Commands answered, by code",
        "reqps",
        rate(f"{_G}_submissions_total", "code"),
        legend=_BY + "{{code}}",
    ),
    panel(
        "Time in a stage, p95", "s", quantile(0.95, f"{_G}_stage_seconds", "stage"), legend=_BY + "{{stage}}"
    ),
    panel("Groups taken and not answered", "short", f"{_G}_submissions_in_flight_count"),
    panel("Their size", "bytes", f"{_G}_submissions_in_flight_bytes"),
    *_queues("gateway"),
    panel(
        "REST and FHIR interactions",
        "reqps",
        rate(f"{_G}_rest_requests_total", "route", "code"),
        legend=_BY + "{{route}} {{code}}",
    ),
    panel(
        "REST and FHIR duration, p95",
        "s",
        quantile(0.95, f"{_G}_rest_seconds", "route"),
        legend=_BY + "{{route}}",
    ),
    panel("Ingest streams", "short", f"{_G}_ingest_streams_count"),
    panel("Groups answered from before", "reqps", rate(f"{_G}_replays_total")),
    panel(
        "Contents sealed and let go",
        "reqps",
        rate(f"{_G}_discarded_total", "outcome"),
        legend=_BY + "{{outcome}}",
        rests="only when a sealed record is refused on the channel",
    ),
    panel("Delegations", "short", f"{_G}_delegations_count"),
    panel("Optional dependencies away", "bool", f"{_G}_degraded_count", legend=_BY + "{{dependency}}"),
)

LEDGER = _service(
    "ledger",
    panel("Verdicts", "reqps", rate(f"{_L}_verdicts_total", "code"), legend=_BY + "{{code}}"),
    panel(
        "Endorse, submit, commit: p95",
        "s",
        quantile(0.95, f"{_L}_step_duration_seconds", "step"),
        legend=_BY + "{{step}}",
    ),
    panel("Steps that failed", "reqps", rate(f"{_L}_step_failures_total", "step"), legend=_BY + "{{step}}"),
    panel("Bytes of a batch, p95", "bytes", quantile(0.95, f"{_L}_batch_size_bytes")),
    panel("Conflicts (MVCC)", "reqps", rate(f"{_L}_conflicts_total")),
    panel("Fate not learned", "reqps", rate(f"{_L}_unknown_outcomes_total")),
    panel("Projection behind the peer", "short", f"{_L}_peer_height_blocks - {_L}_projected_height_blocks"),
    panel("Blocks not published", "short", f"{_L}_publication_lag_blocks"),
    *_queues("ledger"),
)

STORAGE = _service(
    "storage",
    panel("Records sealed", "reqps", rate(f"{_S}_records_sealed_total")),
    panel(
        "Items refused",
        "reqps",
        rate(f"{_S}_items_refused_total", "code"),
        legend=_BY + "{{code}}",
        rests="only when storage refuses an item",
    ),
    panel("Sealing a batch, p95", "s", quantile(0.95, f"{_S}_seal_duration_seconds")),
    panel("Replicas confirmed", "reqps", rate(f"{_S}_replicas_confirmed_total")),
    panel("Replicas failed", "reqps", rate(f"{_S}_replicas_failed_total")),
    panel("Batches held for others", "reqps", rate(f"{_S}_replicas_held_total")),
    panel("Blocks repaired", "reqps", rate(f"{_S}_blobs_repaired_total")),
    panel(
        "Blocks checked against the ledger's CID",
        "reqps",
        rate(f"{_S}_blobs_checked_total", "holder", "outcome"),
        legend=_BY + "{{holder}} {{outcome}}",
    ),
    panel("Keys released", "reqps", rate(f"{_S}_key_releases_total", "outcome"), legend=_BY + "{{outcome}}"),
    panel("Roots to be let go", "short", f"{_S}_unpins_due_count"),
    *_queues("storage"),
)

IDENTITY = _service(
    "identity",
    panel("Fabric CA answers", "bool", f"{_I}_fabric_ca_up_bool"),
    panel(
        "Calls to the Fabric CA",
        "reqps",
        rate(f"{_I}_fabric_ca_duration_seconds_count", "call", "outcome"),
        legend=_BY + "{{call}} {{outcome}}",
    ),
    panel(
        "Fabric CA duration, p95",
        "s",
        quantile(0.95, f"{_I}_fabric_ca_duration_seconds", "call"),
        legend=_BY + "{{call}}",
    ),
)

NOTIFY = _service(
    "notify",
    panel(
        "Events handled", "reqps", rate(f"{_N}_events_consumed_total", "outcome"), legend=_BY + "{{outcome}}"
    ),
    panel("Age of an event when handled, p95", "s", quantile(0.95, f"{_N}_events_age_seconds")),
    panel("Handling, p95", "s", quantile(0.95, f"{_N}_events_handling_seconds")),
    panel("Events that wait", "short", f"{_N}_events_lag_count"),
    panel("Notifications", "reqps", rate(f"{_N}_notifications_total", "kind"), legend=_BY + "{{kind}}"),
    panel("Open streams", "short", f"{_N}_streams_open_count"),
)

FABRIC = Dashboard(
    "fabric",
    "Fabric: peers, orderer, CA",
    (
        panel("Height", "short", "ledger_blockchain_height", legend=_BY + "{{job}}"),
        panel(
            "Transactions by validation",
            "reqps",
            rate("ledger_transaction_count", "validation_code"),
            legend=_BY + "{{validation_code}}",
        ),
        panel("Proposals", "reqps", rate("endorser_proposals_received")),
        panel(
            "Endorsing, p95",
            "s",
            quantile(0.95, "endorser_proposal_duration", "chaincode"),
            legend=_BY + "{{chaincode}}",
        ),
        panel("Block processing, p95", "s", quantile(0.95, "ledger_block_processing_time")),
        panel("State commit, p95", "s", quantile(0.95, "ledger_statedb_commit_time")),
        panel(
            "Block storage, p95",
            "s",
            quantile(0.95, "ledger_blockstorage_commit_time", "job"),
            legend=_BY + "{{job}}",
        ),
        panel(
            "Chaincode's requests",
            "reqps",
            rate("chaincode_shim_requests_completed", "type"),
            legend=_BY + "{{type}}",
        ),
        panel("Peers known by gossip", "short", "gossip_membership_total_peers_known"),
        panel(
            "Peer's gateway, p95",
            "s",
            quantile(0.95, "grpc_server_unary_request_duration", "method", match='service="gateway_Gateway"'),
            legend=_BY + "{{method}}",
        ),
        panel(
            "Orderer: envelopes", "reqps", rate("broadcast_processed_count", "status"), legend="{{status}}"
        ),
        panel("Orderer: filling a block, p95", "s", quantile(0.95, "blockcutter_block_fill_duration")),
        panel("Orderer: WAL fsync, p95", "s", quantile(0.95, "etcd_disk_wal_fsync_duration_seconds")),
        panel("Orderer: leader", "bool", "consensus_etcdraft_is_leader"),
        panel(
            "Orderer: nodes active of cluster",
            "short",
            Query("consensus_etcdraft_active_nodes", "active"),
            Query("consensus_etcdraft_cluster_size", "all"),
        ),
        panel(
            "CA: requests",
            "reqps",
            rate("api_request_count", "api_name", "status_code"),
            legend=_BY + "{{api_name}} {{status_code}}",
        ),
        panel("Memory", "bytes", 'process_resident_memory_bytes{job=~"fabric-.*"}', legend=_BY + "{{job}}"),
        panel(
            "CPU",
            "short",
            'rate(process_cpu_seconds_total{job=~"fabric-.*"}[$__rate_interval])',
            legend=_BY + "{{job}}",
        ),
    ),
)

_STORE = "ipfs_fsrepo_datastore"
IPFS = Dashboard(
    "ipfs",
    "IPFS: Kubo nodes",
    (
        panel("Nodes of the swarm", "short", "sum by (organisation) (ipfs_p2p_peers_total)"),
        panel("Repository", "bytes", f"{_S}_repository_bytes"),
        panel(
            "RPC calls",
            "reqps",
            rate("http_server_request_duration_seconds_count", "http_response_status_code"),
            legend=_BY + "{{http_response_status_code}}",
        ),
        panel("RPC duration, p95", "s", quantile(0.95, "http_server_request_duration_seconds")),
        panel(
            "Datastore: gets and batch commits",
            "reqps",
            Query(rate(f"{_STORE}_get_total"), _BY + "gets"),
            Query(rate(f"{_STORE}_batchcommit_total"), _BY + "batches"),
        ),
        panel("Datastore: batch commit, p95", "s", quantile(0.95, f"{_STORE}_batchcommit_latency_seconds")),
        panel(
            "Datastore: errors",
            "reqps",
            *(
                Query(rate(f"{_STORE}_{what}_errors_total"), _BY + what)
                for what in ("get", "put", "batchcommit")
            ),
        ),
        panel("Bitswap: tasks", "short", "ipfs_bitswap_active_tasks"),
        panel("Memory", "bytes", 'process_resident_memory_bytes{job="ipfs"}'),
        panel("CPU", "short", 'rate(process_cpu_seconds_total{job="ipfs"}[$__rate_interval])'),
    ),
)

NATS = Dashboard(
    "nats",
    "NATS and JetStream",
    (
        panel("Answers", "bool", f"{_L}_nats_up_bool"),
        panel("Clients", "short", f"{_L}_nats_connections_count"),
        panel(
            "Messages in and out",
            "reqps",
            Query(rate(f"{_L}_nats_messages_in_total"), _BY + "in"),
            Query(rate(f"{_L}_nats_messages_out_total"), _BY + "out"),
        ),
        panel("Messages in the stream", "short", f"{_L}_nats_stream_messages"),
        panel(
            "JetStream on disk, share of its limit",
            "percentunit",
            f"{_L}_nats_jetstream_stored_bytes / {_L}_nats_jetstream_limit_bytes",
        ),
        panel(
            "Messages that wait",
            "short",
            Query(f"{_L}_nats_consumer_pending_messages", _BY + "{{consumer}} not given"),
            Query(f"{_L}_nats_consumer_unacknowledged_messages", _BY + "{{consumer}} not acknowledged"),
            Query(f"{_L}_nats_consumer_redelivered_messages", _BY + "{{consumer}} given again"),
        ),
        panel(
            "Time without an acknowledgement while messages wait",
            "s",
            f"{_L}_nats_consumer_stalled_seconds",
            legend=_BY + "{{consumer}}",
        ),
        panel("Blocks not published", "short", f"{_L}_publication_lag_blocks"),
        panel("Clients cut off as too slow", "reqps", rate(f"{_L}_nats_slow_consumers_total")),
        panel("JetStream requests that failed", "reqps", rate(f"{_L}_nats_jetstream_errors_total")),
        panel("Memory", "bytes", f"{_L}_nats_memory_bytes"),
    ),
)

SECURITY = Dashboard(
    "security",
    "Security and privacy",
    (
        panel(
            "Accesses decided",
            "reqps",
            rate(f"{_G}_access_decisions_total", "kind", "code"),
            legend=_BY + "{{kind}} {{code}}",
        ),
        panel(
            "Glass broken",
            "short",
            f'sum by (organisation) (increase({_G}_access_decisions_total{{kind="break_glass"}}[1h]))',
        ),
        panel(
            "Keys released", "reqps", rate(f"{_S}_key_releases_total", "outcome"), legend=_BY + "{{outcome}}"
        ),
        panel(
            "Callers not admitted", "reqps", rate(f"{_G}_not_admitted_total", "code"), legend=_BY + "{{code}}"
        ),
        panel(
            "Commands with bad signatures or unknown signers",
            "reqps",
            rate(f'{_G}_submissions_total{{code=~"BAD_SIGNATURE|UNKNOWN_SIGNER"}}', "code"),
            legend=_BY + "{{code}}",
        ),
        panel(
            "Bytes that did not match",
            "reqps",
            rate(f"{_S}_integrity_failures_total", "what"),
            legend=_BY + "{{what}}",
        ),
        panel(
            "Blocks checked against the ledger's CID",
            "reqps",
            rate(f"{_S}_blobs_checked_total", "outcome"),
            legend=_BY + "{{outcome}}",
        ),
        panel(
            "Days to a certificate's end",
            "d",
            '({__name__=~"cbmdhi_[a-z]+_certificate_expiry_timestamp_seconds"} - time()) / 86400',
            legend=_BY + "{{service}} {{certificate}}",
        ),
        panel(
            "Enrolments by the CA",
            "reqps",
            rate(f"{_I}_fabric_ca_duration_seconds_count", "call"),
            legend=_BY + "{{call}}",
        ),
    ),
)

SLO = Dashboard(
    "slo",
    "Objectives and their budgets",
    (
        *(
            panel(
                f"{one.says[0].upper()}{one.says[1:]}: how fast the budget of {one.budget:.1%} goes",
                "short",
                *(Query(f"{one.recorded(time)} / {one.budget:g}", _BY + time) for time in ("5m", "1h", "6h")),
            )
            for one in OBJECTIVES
        ),
        panel(
            "Alerts that fire",
            "short",
            'sum by (alertname, severity) (ALERTS{alertstate="firing"})',
            legend="{{alertname}} {{severity}}",
            rests="only when an alert fires",
        ),
    ),
)

ALL = (OVERVIEW, GATEWAY, IDENTITY, LEDGER, NOTIFY, STORAGE, FABRIC, IPFS, NATS, SECURITY, SLO)
