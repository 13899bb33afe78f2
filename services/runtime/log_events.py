"""The names that a log line's `event` may have. A test finds every one that the services use."""

EVENTS = frozenset(
    (
        *("batch.crashed", "batch.failed", "batch.invalid", "batch.outcome_unknown"),
        *("block.member_failed", "block.mended", "block.not_mended", "block.own_failed"),
        *("blocks.not_collected",),
        *("blocks.connection_lost", "blocks.refused", "blocks.unreadable"),
        *("consumer.interrupted", "consumer.subscribed"),
        *("device.not_registered", "device.registered"),
        *("emergency.not_recorded", "emergency.not_told", "emergency.opened"),
        *("emergency.postponed", "emergency.recorded"),
        *("epoch.failed",),
        *("event.handler_crashed", "event.retried", "event.set_aside"),
        *("events.block_missing", "events.lagging", "events.recovered"),
        *("fabric_ca.away", "fabric_ca.back"),
        *("inboxes.behind", "inboxes.not_swept", "inboxes.swept"),
        *("entry.crashed",),
        *("ingest.crashed",),
        *("internal.error",),
        *("item.crashed",),
        *("key.not_delivered", "key.not_released"),
        *("leases.postponed",),
        *("library.message",),
        *("lists.behind",),
        *("nats.anew", "nats.connected", "nats.crashed", "nats.disconnected", "nats.error", "nats.refused"),
        *("nats.monitor_away", "nats.monitor_back"),
        *("policy.unknown",),
        *("read.crashed",),
        *("readiness.check_failed",),
        *("replica.failed",),
        *("replicas.late",),
        *("rest.crashed", "rest.refused"),
        *("revocations.heard", "revocations.not_heard"),
        *("rpc.answered", "rpc.crashed", "rpc.refused"),
        *(
            "service.close_timed_out",
            "service.crashed",
            "service.failed",
            "service.ready",
            "service.stopped",
            "service.stopping",
        ),
        *("submission.crashed",),
        *("submissions.crashed",),
        *("task.crashed", "task.ended", "task.failed"),
        *("token_keys.malformed", "token_keys.not_fetched"),
        *("unpin.postponed",),
    )
)

UNLISTED = "unlisted"
"""Written instead of a name that is not on the list, since such a name may hold anything."""
