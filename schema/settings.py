"""Settings groups: every setting of every process, titled, described and bounded where it is declared.

A process composes the groups that it needs into one frozen object, reads it once at its start and
hands it down; nothing reads the environment later. The variable of a setting is its name in capitals
behind ``WEIR_``: ``kafka_bootstrap`` is ``WEIR_KAFKA_BOOTSTRAP``.
"""

from __future__ import annotations

import sys
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

KIB = 1024
MIB = 1024 * KIB
DAY_SECONDS = 86_400

G = TypeVar("G", bound="SettingsGroup")


class SettingsGroup(BaseSettings):
    """What all groups share: the prefix, and that nobody changes a setting after the start."""

    # A refusal names the variable and what is wrong with it, never the value: it may be a secret.
    model_config = SettingsConfigDict(
        env_prefix="WEIR_", frozen=True, extra="ignore", hide_input_in_errors=True
    )


class LogSettings(SettingsGroup):
    """What a process says of itself."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(
        "json", description="One JSON object a line, or text to read."
    )


class KafkaSettings(SettingsGroup):
    """Where Kafka is, and what its topics are like."""

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Comma-separated host:port of Kafka brokers.")
    kafka_events_topic: str = Field("weir.events", description="Topic that carries accepted events.")
    kafka_dead_letters_topic: str = Field(
        "weir.dead-letters", description="Topic of what could not be stored."
    )
    kafka_group: str = Field("weir-writer", description="Consumer group of the writers.")
    kafka_partitions: int = Field(
        8, ge=1, le=1024, description="Partitions of the events topic; fixed for the topic's life."
    )
    kafka_replication: int = Field(1, ge=1, le=7, description="Copies of each partition; 3 in production.")
    kafka_min_insync_replicas: int = Field(
        1,
        ge=1,
        le=7,
        description="Copies that must have a record before it is acknowledged; 2 in production.",
    )
    kafka_retention_seconds: int = Field(
        7 * DAY_SECONDS, ge=3600, description="How long the events topic keeps records."
    )
    kafka_compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        "none", description="Compression of records; costs CPU, worth it off loopback."
    )
    kafka_request_seconds: float = Field(5.0, gt=0, description="Deadline of one request to a broker.")


class DatabaseSettings(SettingsGroup):
    """Where the database is, and how long it may take."""

    database_dsn: str = Field(
        "postgresql://127.0.0.1:5432/weir",
        description="The primary database, as a PostgreSQL URL.",
        repr=False,
    )
    database_command_seconds: float = Field(
        5.0, gt=0, description="Deadline of one statement, on the client's side (a frozen server too)."
    )
    database_connect_seconds: float = Field(5.0, gt=0, description="Deadline of making a connection.")
    database_pool_size: int = Field(8, ge=1, le=200, description="Connections of one process at most.")
    database_statement_cache: int = Field(
        100, ge=0, description="Prepared statements kept by a connection; 0 behind pgbouncer."
    )


class EventLimits(SettingsGroup):
    """Bounds on what one request may bring; beyond one, a clear refusal."""

    max_body_bytes: int = Field(10 * MIB, ge=1 * KIB, description="A request's body, unpacked.")
    max_events: int = Field(10_000, ge=1, le=100_000, description="Events in one request.")
    max_event_bytes: int = Field(
        256 * KIB, ge=1 * KIB, le=1 * MIB, description="One event's JSON text, unpacked."
    )
    max_nesting: int = Field(64, ge=2, le=512, description="Levels of objects and arrays in an event's data.")
    max_future_seconds: int = Field(
        DAY_SECONDS, ge=0, description="How far ahead of the gateway's clock an event may be."
    )


class GatewaySettings(LogSettings, KafkaSettings, DatabaseSettings, EventLimits):
    """The gateway."""

    gateway_host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    gateway_port: int = Field(8081, ge=0, le=65535, description="Port that the gateway listens on; 0: any.")
    gateway_url: str = Field(
        "", description="Where senders reach this gateway, as agents are told; empty: as their request did."
    )
    gateway_origins: str = Field(
        "",
        pattern=r"^(\*|https?://[^/,\s]+(\s*,\s*https?://[^/,\s]+)*)?$",
        description="Origins of web pages that may send from a browser, like https://app.example.com, "
        "comma-separated; *: any. Empty: none.",
    )
    gateway_sockets: int = Field(
        2_000, ge=1, description="WebSockets of agents that one gateway holds at one time."
    )
    gateway_link_bytes: int = Field(
        24 * MIB,
        ge=4 * MIB,
        description="What the links of all agents hold at one time, not yet published; beyond it, they wait.",
    )
    gateway_settle_seconds: float = Field(
        5.5,
        ge=0,
        le=30,
        description="How long the link of an agent that may have several attempts under way is held.",
    )
    gateway_backlog: int = Field(1024, ge=1, description="Connections waiting to be accepted.")
    publish_seconds: float = Field(
        5.0, gt=0, le=60, description="How long a request waits for Kafka's acknowledgement before 503."
    )
    gather_seconds: float = Field(
        0.004, ge=0, le=1, description="How long a record waits for events of concurrent requests."
    )
    record_bytes: int = Field(
        512 * KIB, ge=16 * KIB, le=2 * MIB, description="Size at which a record is closed."
    )
    in_flight_bytes: int = Field(
        48 * MIB,
        ge=1 * MIB,
        description="Events not acknowledged by Kafka yet, the answers that wait included; beyond it, 503.",
    )
    body_bytes: int = Field(
        64 * MIB, ge=1 * MIB, description="Request bodies held at one time, unpacked; beyond it, 503."
    )
    request_seconds: float = Field(30.0, gt=0, description="How long a request may take to arrive.")
    keep_alive_seconds: float = Field(75.0, gt=0, description="How long an idle connection stays open.")
    max_connections: int = Field(
        10_000, ge=16, description="Connections of one process; beyond it, idle ones make room, or 503."
    )
    shutdown_seconds: float = Field(10.0, gt=0, description="Grace for requests in flight when stopping.")
    key_refresh_seconds: float = Field(
        15.0, gt=0, le=25, description="How often cached keys are confirmed, while the database answers."
    )
    key_outage_seconds: float = Field(
        300.0, ge=0, description="How long a confirmed key is served while the database does not answer."
    )
    bucket_events_per_second: float = Field(
        100_000, ge=0, description="Events a second of one bucket on one gateway process; 0: unlimited."
    )
    bucket_burst_seconds: float = Field(2.0, gt=0, description="Seconds' worth of that rate taken at once.")


class WriterSettings(LogSettings, KafkaSettings, DatabaseSettings):
    """The writer, with maintenance."""

    writer_host: str = Field("127.0.0.1", description="Address of the writer's health and metrics.")
    writer_port: int = Field(8082, ge=0, le=65535, description="Port of the writer's health and metrics.")
    writer_lanes: int = Field(2, ge=1, le=16, description="Database connections that store side by side.")
    batch_events: int = Field(20_000, ge=1, description="Events that close a batch.")
    batch_bytes: int = Field(16 * MIB, ge=64 * KIB, description="Record bytes that close a batch.")
    batch_seconds: float = Field(0.02, ge=0, le=10, description="Age that closes a batch.")
    queue_bytes: int = Field(
        32 * MIB,
        ge=1 * MIB,
        description="Record bytes that wait for the database; beyond it, fetching pauses.",
    )
    transaction_seconds: float = Field(
        30.0, gt=0, description="Longest transaction of a writer; must stay below the maintenance margin."
    )
    session_seconds: float = Field(10.0, ge=6, description="Silence after which Kafka gives partitions away.")
    dead_letters_per_minute: int = Field(
        10_000, ge=1, description="Dead letters a minute beyond which the writer stops loudly."
    )
    shutdown_seconds: float = Field(10.0, gt=0, description="Grace for the batch in flight when stopping.")
    maintenance: bool = Field(default=True, description="Whether this writer takes part in maintenance.")
    maintenance_dsn: str | None = Field(
        None, description="DSN of the owner's role; default: database_dsn.", repr=False
    )
    maintenance_margin_seconds: float = Field(
        60.0, gt=0, description="Refreshes end this far before now; above transaction_seconds."
    )
    refresh_seconds: float = Field(30.0, gt=0, description="How often current rollups are refreshed.")
    ledger_seconds: float = Field(120.0, gt=0, description="How often late hours are refreshed.")
    retention_days: int | None = Field(
        None, ge=1, description="Age at which raw rows are dropped; none: never."
    )
    compress_after_days: int = Field(
        7, ge=1, description="Age at which raw chunks are compressed (community edition)."
    )
    future_slack_seconds: int = Field(
        DAY_SECONDS + 3600,
        ge=0,
        description="How far ahead of its receipt an event may be when it is stored.",
    )


class Plan(BaseModel):
    """What a bucket's plan allows. A null limit is none; a plan with a price needs a payment provider."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    buckets: int | None = Field(None, ge=0, description="Buckets of one owner on this plan.")
    members: int | None = Field(None, ge=1, description="Members of a bucket, open invitations included.")
    retention_days: int | None = Field(None, ge=1, description="Age at which events are no longer shown.")
    monthly_price: float = Field(0, ge=0, description="Above 0: paid.")
    trial_days: int = Field(0, ge=0, le=365, description="Days for which a bucket may try it; 0: not at all.")


class TenancySettings(SettingsGroup):
    """Plans, and the key under which secrets that have to be shown again are kept."""

    plans: dict[str, Plan] = Field(
        {
            "free": Plan(buckets=100, members=50, retention_days=None, monthly_price=0, trial_days=0),
            "pro": Plan(buckets=1000, members=500, retention_days=None, monthly_price=49, trial_days=14),
        },
        description="Plans by name, as JSON: buckets, members, retention_days, monthly_price, trial_days.",
    )
    default_plan: str = Field("free", description="Plan of a new bucket.")
    secret_key: str = Field(
        "",
        description="Keys that encrypt the buckets' secret ids: 32 bytes each in base64, comma-separated, "
        "the first one for new secrets. Empty: buckets have no secret id, and agents that need one stay out.",
        repr=False,
    )

    @model_validator(mode="after")
    def _default_plan_is_one(self) -> Self:
        if self.default_plan not in self.plans:
            raise ValueError(f"default_plan: there is no plan {self.default_plan!r} in plans")
        return self


class MailSettings(SettingsGroup):
    """How mail leaves: by SMTP, or, without a host, into a folder of .eml files."""

    mail_folder: str = Field(
        ".weir/mail", description="Folder that mail goes to while there is no smtp_host."
    )
    mail_from: str = Field("Weir <weir@localhost>", description="Sender of mail.")
    smtp_host: str = Field("", description="SMTP server; empty: mail goes to mail_folder.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", description="Its encryption.")
    smtp_user: str = Field("", description="User at the SMTP server; empty: no sign-in.")
    smtp_password: str = Field("", description="That user's password.", repr=False)
    smtp_seconds: float = Field(10.0, gt=0, le=60, description="Deadline of sending one mail.")
    mail_queue: int = Field(
        1_000, ge=1, description="Mails that wait to be sent after their request's answer; beyond it, 503."
    )
    mail_grace_seconds: float = Field(
        5.0, ge=0, le=8, description="Grace for those that still wait when the process stops."
    )


class AccountSettings(SettingsGroup):
    """Who may come in, for how long, and how often it may be tried."""

    registration: Literal["open", "invitation"] = Field(
        "open", description="Whether anybody may register, or only whom a bucket has invited."
    )
    access_token_seconds: int = Field(900, ge=1, le=3600, description="Life of an access token.")
    console_session_seconds: int = Field(
        30 * DAY_SECONDS, ge=60, description="Life of a session of the console that nobody uses."
    )
    mail_token_seconds: int = Field(3600, ge=60, description="Life of what is mailed to reset a password.")
    invitation_seconds: int = Field(14 * DAY_SECONDS, ge=60, description="Life of an invitation.")
    sign_ins_per_minute: int = Field(
        10, ge=1, description="Attempts to sign in, register or reset a password, for one account."
    )
    address_sign_ins_per_minute: int = Field(60, ge=1, description="The same, from one network address.")
    tokens_per_minute: int = Field(120, ge=1, description="Access tokens of one refresh token or key.")
    address_tokens_per_minute: int = Field(1200, ge=1, description="The same, from one network address.")
    invitations_per_minute: int = Field(30, ge=1, description="Invitations that one user sends.")
    keys_per_minute: int = Field(30, ge=1, description="API keys that one user makes.")
    forwarded_hops: int = Field(
        0, ge=0, le=8, description="Proxies in front whose X-Forwarded-For names the caller's address."
    )


class LiveSettings(SettingsGroup):
    """The live feed: how many may follow, and how far behind one may be."""

    live_connections: int = Field(
        2_000, ge=1, description="Subscribers that one process holds at one time; a further one is dropped."
    )
    live_caller_connections: int = Field(
        100, ge=1, description="Subscribers of one user, or of one key that is nobody's, in one process."
    )
    live_subscriptions: int = Field(50, ge=1, description="Buckets that one subscriber follows at most.")
    live_message_bytes: int = Field(16 * KIB, ge=1 * KIB, description="A subscriber's message at most.")
    live_queue_bytes: int = Field(
        1 * MIB, ge=64 * KIB, description="Events that wait for one subscriber; beyond it, it is dropped."
    )
    live_all_queues_bytes: int = Field(
        64 * MIB, ge=1 * MIB, description="The same for all together; beyond it, the slowest is dropped."
    )
    live_confirm_seconds: float = Field(
        10.0, gt=0, le=30, description="How often it is asked again whether a subscriber still may."
    )
    live_outage_seconds: float = Field(
        300.0, ge=0, description="How long a subscriber is served while the database does not answer."
    )


class ApiSettings(
    LogSettings,
    KafkaSettings,
    DatabaseSettings,
    TenancySettings,
    MailSettings,
    AccountSettings,
    LiveSettings,
):
    """The query API."""

    public_url: str = Field(
        "",
        description="Where clients reach this API, as buckets and invitations tell them; empty (not with "
        "smtp_host): as the request did.",
    )

    api_host: str = Field("127.0.0.1", description="Address that the query API listens on.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port that the query API listens on; 0: any.")
    database_read_dsn: str | None = Field(
        None, description="A replica for analytics; default: database_dsn.", repr=False
    )
    query_seconds: float = Field(20.0, gt=0, description="Longest query of an analytic call.")
    max_points: int = Field(200_000, ge=1, description="Points of one histogram at most.")
    receipt_seconds: float = Field(5.0, ge=0, description="How long a read waits for what its receipt names.")
    request_seconds: float = Field(30.0, gt=0, description="How long a request may take to arrive.")
    keep_alive_seconds: float = Field(75.0, gt=0, description="How long an idle connection stays open.")
    max_connections: int = Field(
        10_000, ge=16, description="Connections of one process; beyond it, idle ones make room, or 503."
    )
    shutdown_seconds: float = Field(10.0, gt=0, description="Grace for requests in flight when stopping.")
    request_bytes: int = Field(1 * MIB, ge=1 * KIB, description="A request's body at most.")

    @model_validator(mode="after")
    def _mail_names_no_callers_host(self) -> Self:
        # Links in mail would be made of the Host header, which whoever sends the request chooses.
        if self.smtp_host and not self.public_url:
            raise ValueError(
                "WEIR_PUBLIC_URL must be set where WEIR_SMTP_HOST is: links in mail begin with it"
            )
        return self


class AgentSettings(LogSettings):
    """The agent."""

    agent_gateway: str = Field("http://127.0.0.1:8081", description="The gateway's URL.")
    agent_key: str = Field("", description="An ingest key.", repr=False)
    agent_interval_seconds: int = Field(5, ge=1, le=3600, description="Seconds between node reports.")
    agent_buffer_path: str = Field(".weir/agent", description="Folder of what was not acknowledged yet.")
    agent_buffer_bytes: int = Field(64 * MIB, ge=1 * MIB, description="Size of that folder at most.")
    agent_server_name: str = Field("", description="This machine's name in events; default: its host name.")
    agent_sync_seconds: float = Field(
        1.0, ge=0, le=60, description="Youngest part of the buffer that a power cut may cost; 0: none."
    )
    agent_host: str = Field("127.0.0.1", description="Address of the agent's health and metrics.")
    agent_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the agent's health and metrics; none: not served."
    )


def refusals(error: ValidationError) -> list[str]:
    """What is wrong with settings: a sentence each, with the variable's name, never its value."""
    return [
        # What is wrong with several together has no place, and names them itself.
        f"WEIR_{str(problem['loc'][0]).upper()}: {problem['msg']}" if problem["loc"] else problem["msg"]
        for problem in error.errors()
    ]


def settings_or_exit(group: type[G], process: str) -> G:
    """The settings of this environment. Those that cannot be are named, and the process ends with code 2."""
    try:
        return group()
    except ValidationError as error:
        sys.stderr.write("".join(f"weir {process}: {refusal}\n" for refusal in refusals(error)))
        raise SystemExit(2) from None
