"""What may be told to the local stack: addresses of one's own, ports, and where its data is kept.

Neighbours: `deploy.local.stack` and `deploy.local.doctor` read it; the variables are those of the processes
(`WEIR_GATEWAY_PORT` and so on), so that one setting serves both.
"""

from pydantic import Field

from schema.settings import SettingsGroup

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = {"0.0.0.0", "::", ""}  # noqa: S104 - recognised here, not listened on


class LocalSettings(SettingsGroup):
    """The settings of `weir up`. A given address means that this part is somebody else's and is not
    started.
    """

    kafka_bootstrap: str | None = Field(None, description="Kafka of one's own; then none is started.")
    database_dsn: str | None = Field(
        None, description="TimescaleDB of one's own; then none is started.", repr=False
    )
    kafka_port: int = Field(19092, ge=1, le=65535, description="Port of the Kafka that is started.")
    kafka_controller_port: int = Field(19093, ge=1, le=65535, description="Its controller's port.")
    kafka_heap_mb: int = Field(512, ge=192, description="Heap of the Kafka that is started, in MiB.")
    database_port: int = Field(15432, ge=1, le=65535, description="Port of the database that is started.")
    api_host: str = Field(LOOPBACK, description="Address that the query API listens on.")
    api_port: int = Field(8080, ge=1, le=65535, description="Port of the query API.")
    gateway_host: str = Field(LOOPBACK, description="Address that the gateway listens on.")
    gateway_port: int = Field(8081, ge=1, le=65535, description="Port of the gateway.")
    writer_host: str = Field(LOOPBACK, description="Address of the writer's health and metrics.")
    writer_port: int = Field(8082, ge=1, le=65535, description="Port of the writer's health and metrics.")
    agent_host: str = Field(LOOPBACK, description="Address of the agent's health and metrics.")
    agent_port: int = Field(8083, ge=1, le=65535, description="Port of the agent's health and metrics.")

    @property
    def api_url(self) -> str:
        """Where the query API is reached from this machine."""
        return local_url(self.api_host, self.api_port)

    @property
    def gateway_url(self) -> str:
        """Where the gateway is reached from this machine."""
        return local_url(self.gateway_host, self.gateway_port)

    @property
    def writer_url(self) -> str:
        """Where the writer's health and metrics are reached from this machine."""
        return local_url(self.writer_host, self.writer_port)

    @property
    def agent_url(self) -> str:
        """Where the agent's health and metrics are reached from this machine."""
        return local_url(self.agent_host, self.agent_port)

    def ports(self) -> dict[str, tuple[str, int, str]]:
        """What will be listened on: for each part its address, its port, and the variable that sets it."""
        ports = {
            "api": (self.api_host, self.api_port, "WEIR_API_PORT"),
            "gateway": (self.gateway_host, self.gateway_port, "WEIR_GATEWAY_PORT"),
            "writer": (self.writer_host, self.writer_port, "WEIR_WRITER_PORT"),
            "agent": (self.agent_host, self.agent_port, "WEIR_AGENT_PORT"),
        }
        if self.kafka_bootstrap is None:
            ports["kafka"] = (LOOPBACK, self.kafka_port, "WEIR_KAFKA_PORT")
            ports["kafka controller"] = (LOOPBACK, self.kafka_controller_port, "WEIR_KAFKA_CONTROLLER_PORT")
        if self.database_dsn is None:
            ports["database"] = (LOOPBACK, self.database_port, "WEIR_DATABASE_PORT")
        return ports


def local_url(host: str, port: int) -> str:
    """The URL of a port of this machine; a process that listens everywhere is asked over loopback."""
    name = LOOPBACK if host in ANY_ADDRESS else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
