"""Mail that leaves after the answer: a bounded queue, and the few tasks that work it off.

Neighbours: ``accounts`` says what is to be sent, ``mail`` sends it. Whom a mail is for and what it says is
looked up here too, never by the call that asks for it: so neither time nor status of an answer tells whether
there was anybody to write to. Guarantee: no more orders are held than the setting says; each is tried a few
times with bounded waits, and one that comes to nothing is said in the log, without its address or text. On
stopping, what is held is sent within a grace, and what is left then is said too. A process that is killed
loses what it held.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from api.tenancy.mail import Mail, Message
from schema.errors import Overloaded, Unavailable, WeirError
from schema.metrics import ApiMetrics
from schema.settings import MailSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")
# None: there is nobody to write to.
Compose = Callable[[], Awaitable[Message | None]]
Put = Callable[[str, Compose], None]

_AT_ONCE = 4
# A second time after the first of these, and so on.
_WAITS_SECONDS = (2.0, 10.0)
_ENDING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Order:
    purpose: str
    compose: Compose
    request_id: str | None


class Outbox:
    """The queue of one process. ``waits_seconds``: before each further try."""

    def __init__(
        self,
        settings: MailSettings,
        mail: Mail,
        metrics: ApiMetrics,
        waits_seconds: Sequence[float] = _WAITS_SECONDS,
    ) -> None:
        self._most = settings.mail_queue
        self._grace_seconds = settings.mail_grace_seconds
        self._mail = mail
        self._metrics = metrics
        self._waits_seconds = waits_seconds
        self._orders: asyncio.Queue[_Order] = asyncio.Queue()
        self._held = 0

    def put(self, purpose: str, compose: Compose) -> None:
        """Have a mail composed and sent; returns at once. Raises Overloaded (503) when the queue is full."""
        with self.place() as put:
            put(purpose, compose)

    @contextmanager
    def place(self) -> Iterator[Put]:
        """Keep a place while the block runs, for at most one order. Raises Overloaded (503)."""
        if self._held >= self._most:
            # Whoever was told "on its way" would wait for a mail that never comes.
            self._metrics.mails.labels("refused").inc()
            raise Overloaded("too much mail waits to be sent; try again", retry_after_seconds=10.0)
        self._hold(1)
        ordered = False

        def put(purpose: str, compose: Compose) -> None:
            nonlocal ordered
            assert not ordered, "one place, one order"
            ordered = True
            request_id = structlog.contextvars.get_contextvars().get("request_id")
            self._orders.put_nowait(_Order(purpose, compose, request_id))

        try:
            yield put
        finally:
            if not ordered:
                self._hold(-1)

    async def lifetime(self) -> AsyncIterator[None]:
        """Send while the process lives; then what is held, within the grace."""
        working = [asyncio.create_task(self._work()) for _ in range(_AT_ONCE)]
        yield
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace_seconds):
                await self._orders.join()
        for task in working:
            task.cancel()
        await asyncio.wait(working, timeout=_ENDING_SECONDS)
        if self._held:
            # Those under way among them: whether the server has taken one of these, nobody can say.
            log.warning("mail left unsent", count=self._held, grace_seconds=self._grace_seconds)
            self._metrics.mails.labels("left").inc(self._held)

    async def _work(self) -> None:
        while True:
            order = await self._orders.get()
            await self._carry_out(order)
            self._hold(-1)
            self._orders.task_done()

    async def _carry_out(self, order: _Order) -> None:
        about = log.bind(purpose=order.purpose, request_id=order.request_id)
        try:
            message = await self._tried(about, order.compose)
            if message is None:
                return
            await self._tried(about, lambda: self._mail.send(message))
        except WeirError as error:
            about.warning("mail not sent", reason=error.message)
        except Exception as error:  # noqa: BLE001 - the next order has to be worked off whatever became of this one
            # Its text may quote a row, and so the address.
            frames = traceback.format_tb(error.__traceback__)
            about.error("mail not sent", reason=type(error).__name__, frames=frames)
        else:
            self._metrics.mails.labels("sent").inc()
            return
        self._metrics.mails.labels("failed").inc()

    async def _tried(self, about: structlog.stdlib.BoundLogger, step: Callable[[], Awaitable[T]]) -> T:
        """A step, tried again while a server is away. A mail may leave twice; it holds the same secret."""
        for wait_seconds in self._waits_seconds:
            try:
                return await step()
            except Unavailable as error:
                about.info("mail is tried again", reason=error.message, wait_seconds=wait_seconds)
            await asyncio.sleep(wait_seconds)
        return await step()

    def _hold(self, change: int) -> None:
        self._held += change
        self._metrics.mails_waiting.set(self._held)
