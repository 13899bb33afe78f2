"""What the services stand on: Fabric, IPFS, NATS."""

from __future__ import annotations

from ops.observe.dashboards import parts
from ops.observe.panels import Dashboard, Query, panel, quantile, rate

FABRIC = Dashboard(
    "fabric",
    "Fabric: peers, orderer, CA",
    (
        panel("Height", "short", "ledger_blockchain_height", legend=parts.BY + "{{job}}"),
        panel(
            "Transactions by validation",
            "reqps",
            rate("ledger_transaction_count", "validation_code"),
            legend=parts.BY + "{{validation_code}}",
        ),
        panel("Proposals", "reqps", rate("endorser_proposals_received")),
        panel(
            "Endorsing, p95",
            "s",
            quantile(0.95, "endorser_proposal_duration", "chaincode"),
            legend=parts.BY + "{{chaincode}}",
        ),
        panel("Block processing, p95", "s", quantile(0.95, "ledger_block_processing_time")),
        panel("State commit, p95", "s", quantile(0.95, "ledger_statedb_commit_time")),
        panel(
            "Block storage, p95",
            "s",
            quantile(0.95, "ledger_blockstorage_commit_time", "job"),
            legend=parts.BY + "{{job}}",
        ),
        panel(
            "Chaincode's requests",
            "reqps",
            rate("chaincode_shim_requests_completed", "type"),
            legend=parts.BY + "{{type}}",
        ),
        panel("Peers known by gossip", "short", "gossip_membership_total_peers_known"),
        panel(
            "Peer's gateway, p95",
            "s",
            quantile(0.95, "grpc_server_unary_request_duration", "method", match='service="gateway_Gateway"'),
            legend=parts.BY + "{{method}}",
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
            legend=parts.BY + "{{api_name}} {{status_code}}",
        ),
        panel(
            "Memory", "bytes", 'process_resident_memory_bytes{job=~"fabric-.*"}', legend=parts.BY + "{{job}}"
        ),
        panel(
            "CPU",
            "short",
            'rate(process_cpu_seconds_total{job=~"fabric-.*"}[$__rate_interval])',
            legend=parts.BY + "{{job}}",
        ),
    ),
)

_STORE = "ipfs_fsrepo_datastore"

IPFS = Dashboard(
    "ipfs",
    "IPFS: Kubo nodes",
    (
        panel("Nodes of the swarm", "short", "sum by (organisation) (ipfs_p2p_peers_total)"),
        panel("Repository", "bytes", f"{parts.STORAGE}_repository_bytes"),
        panel(
            "RPC calls",
            "reqps",
            rate("http_server_request_duration_seconds_count", "http_response_status_code"),
            legend=parts.BY + "{{http_response_status_code}}",
        ),
        panel("RPC duration, p95", "s", quantile(0.95, "http_server_request_duration_seconds")),
        panel(
            "Datastore: gets and batch commits",
            "reqps",
            Query(rate(f"{_STORE}_get_total"), parts.BY + "gets"),
            Query(rate(f"{_STORE}_batchcommit_total"), parts.BY + "batches"),
        ),
        panel("Datastore: batch commit, p95", "s", quantile(0.95, f"{_STORE}_batchcommit_latency_seconds")),
        panel(
            "Datastore: errors",
            "reqps",
            *(
                Query(rate(f"{_STORE}_{what}_errors_total"), parts.BY + what)
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
        panel("Answers", "bool", f"{parts.LEDGER}_nats_up_bool"),
        panel("Clients", "short", f"{parts.LEDGER}_nats_connections_count"),
        panel(
            "Messages in and out",
            "reqps",
            Query(rate(f"{parts.LEDGER}_nats_messages_in_total"), parts.BY + "in"),
            Query(rate(f"{parts.LEDGER}_nats_messages_out_total"), parts.BY + "out"),
        ),
        panel("Messages in the stream", "short", f"{parts.LEDGER}_nats_stream_messages"),
        panel(
            "JetStream on disk, share of its limit",
            "percentunit",
            f"{parts.LEDGER}_nats_jetstream_stored_bytes / {parts.LEDGER}_nats_jetstream_limit_bytes",
        ),
        panel(
            "Messages that wait",
            "short",
            Query(f"{parts.LEDGER}_nats_consumer_pending_messages", parts.BY + "{{consumer}} not given"),
            Query(
                f"{parts.LEDGER}_nats_consumer_unacknowledged_messages",
                parts.BY + "{{consumer}} not acknowledged",
            ),
            Query(
                f"{parts.LEDGER}_nats_consumer_redelivered_messages", parts.BY + "{{consumer}} given again"
            ),
        ),
        panel(
            "Time without an acknowledgement while messages wait",
            "s",
            f"{parts.LEDGER}_nats_consumer_stalled_seconds",
            legend=parts.BY + "{{consumer}}",
        ),
        panel("Blocks not published", "short", f"{parts.LEDGER}_publication_lag_blocks"),
        panel("Clients cut off as too slow", "reqps", rate(f"{parts.LEDGER}_nats_slow_consumers_total")),
        panel("JetStream requests that failed", "reqps", rate(f"{parts.LEDGER}_nats_jetstream_errors_total")),
        panel("Memory", "bytes", f"{parts.LEDGER}_nats_memory_bytes"),
    ),
)
