"""Mail: composed here, handed to an SMTP server or laid into a folder as .eml files.

Neighbours: ``members`` waits for it, ``outbox`` sends after the answer. Guarantee: when ``send`` returns, the
server has taken the mail, or the file is whole. Nothing of a mail is ever logged.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path

import aiosmtplib

from schema.errors import Invalid, Unavailable
from schema.settings import MailSettings

# Codes of SMTP from here on: to try again is of no use.
_FOR_GOOD = 500


@dataclass(frozen=True, slots=True)
class Message:
    """A plain text to one address."""

    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)


class Mail:
    """Where mail goes, by the settings."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        # Made once: it reads all certificates, which would hold up whatever else the process does.
        self._tls = ssl.create_default_context() if _is_encrypted(settings) else None

    async def send(self, message: Message) -> None:
        """Send a mail.

        Raises Unavailable when the server does not take it, Invalid for a bad address.
        """
        made = composed(self._settings.mail_from, message)
        try:
            if self._settings.smtp_host:
                await self._over_smtp(made)
            else:
                await asyncio.to_thread(_lay_down, Path(self._settings.mail_folder), made)
        except aiosmtplib.SMTPRecipientsRefused as error:
            if any(refused.code < _FOR_GOOD for refused in error.recipients):
                raise Unavailable("mail: the server does not take mail for this address just now") from None
            raise Invalid("email: the mail server does not take mail for this address") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Unavailable(f"mail: {type(error).__name__}") from error

    async def _over_smtp(self, message: EmailMessage) -> None:
        settings = self._settings
        async with asyncio.timeout(settings.smtp_seconds):
            await aiosmtplib.send(
                message,
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_user or None,
                password=settings.smtp_password or None,
                use_tls=settings.smtp_security == "tls",
                start_tls=settings.smtp_security == "starttls",
                tls_context=self._tls,
                timeout=settings.smtp_seconds,
            )


def composed(sender: str, message: Message) -> EmailMessage:
    """The message. Raises Invalid when a header cannot be made of the address. Pure but for date and id."""
    made = EmailMessage(policy=SMTP)
    try:
        made["From"], made["To"], made["Subject"] = sender, message.to, message.subject
    except ValueError:
        raise Invalid("email: no mail can be sent to this address") from None
    made["Date"] = formatdate()
    made["Message-ID"] = make_msgid(domain="weir.invalid")
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(message.text)
    return made


def _is_encrypted(settings: MailSettings) -> bool:
    return bool(settings.smtp_host) and settings.smtp_security != "none"


def _lay_down(folder: Path, message: EmailMessage) -> None:
    """A file that appears whole, readable by us alone: it carries a secret."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{time.time_ns()}-{secrets.token_hex(4)}"
    unfinished = folder / f".{name}.part"
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_bytes(message.as_bytes())
    unfinished.rename(folder / f"{name}.eml")
