"""The paths of the gateway's writes, as they are served and as they are described."""

EVENTS_PATH = "/v1/events"
NODES_PATH = "/v1/nodes"
# The surface of a device's events has two addresses, and a form of refusals of its own.
DEVICE_PREFIXES = ("/devices", "/laas/api/v1/devices")
EVENT_CREATE_PATH = "/event_create"
