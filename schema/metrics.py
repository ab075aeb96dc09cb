"""Every metric of every process, declared here and nowhere else; docs/metrics.md explains each.

A process makes one group on a registry of its own. Label values are few and known: reasons, outcomes,
partitions; never a bucket, a device or anything that a caller chooses.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EVENTS = (1, 10, 100, 1_000, 5_000, 10_000, 20_000, 50_000)


class DoorMetrics:
    """What every HTTP door counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "weir_http_requests_total", "Requests answered.", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "weir_http_request_seconds", "Time to answer.", ["route"], buckets=_LATENCY, registry=registry
        )


class GatewayMetrics:
    """The way into Kafka."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.accepted = Counter(
            "weir_events_accepted_total",
            "Events (or node reports) acknowledged.",
            ["kind"],
            registry=registry,
        )
        self.refused = Counter(
            "weir_events_refused_total",
            "Events (or whole requests, counted once) refused.",
            ["reason"],
            registry=registry,
        )
        self.queued_bytes = Gauge(
            "weir_queued_bytes",
            "Events not yet acknowledged by Kafka, with the answers that wait for them.",
            registry=registry,
        )
        self.produce_seconds = Histogram(
            "weir_produce_seconds",
            "Time from closing a record to Kafka's acknowledgement.",
            buckets=_LATENCY,
            registry=registry,
        )
        self.record_events = Histogram(
            "weir_record_events", "Events in one record.", buckets=_EVENTS, registry=registry
        )
        self.producer_rebuilds = Counter(
            "weir_producer_rebuilds_total", "Producers given up and made anew.", registry=registry
        )
        self.agent_links = Gauge("weir_agent_links", "WebSockets of agents that are open.", registry=registry)
        self.agent_link_bytes = Gauge(
            "weir_agent_link_bytes", "What agents' links hold that is not published yet.", registry=registry
        )
        self.cached_keys = Gauge("weir_cached_keys", "API keys known to this gateway.", registry=registry)
        self.oldest_unstored_seconds = Gauge(
            "weir_oldest_unstored_seconds",
            "At least this old is the oldest record that no writer has stored (0: none is over the limit).",
            registry=registry,
        )


class WriterMetrics:
    """The way from Kafka into the database."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "weir_consumer_lag_records", "Records not yet stored.", ["partition"], registry=registry
        )
        self.batch_events = Histogram(
            "weir_batch_events", "Events in one transaction.", buckets=_EVENTS, registry=registry
        )
        self.write_seconds = Histogram(
            "weir_write_seconds", "Time of one transaction.", buckets=_LATENCY, registry=registry
        )
        self.stored = Counter(
            "weir_events_stored_total", "Events (or node reports) stored.", ["kind"], registry=registry
        )
        self.duplicates = Counter(
            "weir_events_duplicate_total", "Events that were already stored.", registry=registry
        )
        self.fenced = Counter(
            "weir_events_fenced_total", "Events dropped since their bucket was emptied.", registry=registry
        )
        self.dead_letters = Counter(
            "weir_dead_letters_total", "What could not be stored.", ["reason"], registry=registry
        )
        self.retries = Counter(
            "weir_write_retries_total", "Transactions tried again.", ["reason"], registry=registry
        )
        self.stale_offsets = Counter(
            "weir_stale_offsets_total",
            "Transactions refused since another writer moved on.",
            registry=registry,
        )
        self.staged_events = Counter(
            "weir_events_staged_total", "Events that went through the staging table.", registry=registry
        )
        self.new_epochs = Counter(
            "weir_log_epochs_total", "Logs found recreated or shortened.", registry=registry
        )
        self.newest_event_age = Gauge(
            "weir_newest_event_age_seconds", "Age of the newest record stored.", registry=registry
        )
        self.queue_bytes = Gauge(
            "weir_writer_queue_bytes", "Record bytes that wait for the database.", registry=registry
        )
        self.late_hours = Gauge(
            "weir_late_hours", "Hours with late rows that wait for a refresh.", registry=registry
        )
        self.maintenance_seconds = Histogram(
            "weir_maintenance_seconds", "Time of one maintenance step.", ["step"], registry=registry
        )
        self.maintenance_failures = Counter(
            "weir_maintenance_failures_total", "Maintenance steps that failed.", ["step"], registry=registry
        )
        self.purged_events = Counter(
            "weir_events_purged_total", "Rows of emptied buckets removed.", registry=registry
        )


class ApiMetrics:
    """The way back out."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.query_seconds = Histogram(
            "weir_query_seconds", "Time of one query.", ["query"], buckets=_LATENCY, registry=registry
        )
        self.receipt_waits = Counter(
            "weir_receipt_waits_total", "Reads that carried a receipt.", ["outcome"], registry=registry
        )
        self.mails = Counter(
            "weir_mails_total",
            "Mails sent after the answer: sent, failed, refused (the queue was full), left (at the stop).",
            ["outcome"],
            registry=registry,
        )
        self.mails_waiting = Gauge(
            "weir_mails_waiting", "Mails that wait to be sent after the answer.", registry=registry
        )


class LiveMetrics:
    """The live feed: what was just accepted, to whoever is connected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.subscribers = Gauge("weir_live_subscribers", "Connections to the live feed.", registry=registry)
        self.subscriptions = Gauge(
            "weir_live_subscriptions", "Buckets followed, each once for each connection.", registry=registry
        )
        self.queued_bytes = Gauge(
            "weir_live_queued_bytes", "Frames that wait for slow subscribers.", registry=registry
        )
        self.delivered = Counter(
            "weir_live_delivered_total",
            "Events put before a subscriber, once for each of them.",
            registry=registry,
        )
        self.dropped = Counter(
            "weir_live_dropped_total", "Subscribers let go.", ["reason"], registry=registry
        )
        self.shed = Counter("weir_live_shed_total", "Connections not taken.", ["reason"], registry=registry)
        self.unreadable = Counter(
            "weir_live_unreadable_total", "Records, or events in them, that make no frame.", registry=registry
        )
        self.pauses = Counter(
            "weir_live_pauses_total", "Times that the topic could not be read on.", registry=registry
        )
        self.skipped = Counter(
            "weir_live_skipped_total",
            "Times that the feed went on at the topic's end instead of where it was.",
            registry=registry,
        )
        self.reading = Gauge(
            "weir_live_reading", "1 while the topic is being read for subscribers.", registry=registry
        )


class AgentMetrics:
    """The way from a machine to the gateway. ``kind``: event, node_report."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.buffered = Counter(
            "weir_agent_buffered_total",
            "Events (or node reports) put into the buffer.",
            ["kind"],
            registry=registry,
        )
        self.accepted = Counter(
            "weir_agent_accepted_total",
            "Events (or node reports) acknowledged by the gateway.",
            ["kind"],
            registry=registry,
        )
        self.lost = Counter(
            "weir_agent_lost_total",
            "Events (or node reports) given up.",
            ["kind", "reason"],
            registry=registry,
        )
        self.requests = Counter(
            "weir_agent_requests_total",
            "Batches sent, by what became of them.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.waiting_events = Gauge(
            "weir_agent_waiting_events",
            "Events (or node reports) in the buffer.",
            ["kind"],
            registry=registry,
        )
        self.waiting_bytes = Gauge(
            "weir_agent_waiting_bytes", "Size of the buffer's files.", ["kind"], registry=registry
        )
        self.round_trip_seconds = Gauge(
            "weir_agent_round_trip_seconds", "Latest round trip to the gateway.", registry=registry
        )
