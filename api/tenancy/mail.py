"""Mail: composed here, handed to an SMTP server or laid into a folder as .eml files.

Neighbours: invitations, resets and confirmations of addresses. Guarantee: when ``send`` returns, the server
has taken the mail, or the file is whole. Nothing of a mail is ever logged.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path

import aiosmtplib

from schema.errors import Invalid, Unavailable
from schema.settings import MailSettings


class Mail:
    """Where mail goes, by the settings."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    async def send(self, to: str, subject: str, text: str) -> None:
        """Send a plain text.

        Raises Unavailable when the server does not take it, Invalid for a bad address.
        """
        message = composed(self._settings.mail_from, to, subject, text)
        try:
            if self._settings.smtp_host:
                await self._over_smtp(message)
            else:
                await asyncio.to_thread(_lay_down, Path(self._settings.mail_folder), message)
        except aiosmtplib.SMTPRecipientsRefused:
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
                tls_context=None if settings.smtp_security == "none" else ssl.create_default_context(),
                timeout=settings.smtp_seconds,
            )


def composed(sender: str, to: str, subject: str, text: str) -> EmailMessage:
    """The message. Raises Invalid when a header cannot be made of the address. Pure but for date and id."""
    message = EmailMessage(policy=SMTP)
    try:
        message["From"], message["To"], message["Subject"] = sender, to, subject
    except ValueError:
        raise Invalid("email: no mail can be sent to this address") from None
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="weir.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message


def _lay_down(folder: Path, message: EmailMessage) -> None:
    """A file that appears whole, readable by us alone: it carries a secret."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{time.time_ns()}-{secrets.token_hex(4)}"
    unfinished = folder / f".{name}.part"
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_bytes(message.as_bytes())
    unfinished.rename(folder / f"{name}.eml")
