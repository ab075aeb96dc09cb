"""Mail: no text of a caller's becomes a header, and a folder's file appears whole."""

import email
import email.policy
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.tenancy.mail import Mail, Message, composed
from schema.errors import Invalid, Unavailable
from schema.settings import ApiSettings, MailSettings, refusals
from tests.support.mail import SmtpServer, smtp_server


@pytest.mark.parametrize("to", ["a@example.com\nBcc: b@example.com", "a@example.com\r\nX: y"])
def test_an_address_with_a_line_break_is_refused(to: str) -> None:
    with pytest.raises(Invalid):
        composed("Weir <weir@localhost>", Message(to, "s", "t"))


async def test_a_mail_lies_in_the_folder_closed_to_others(tmp_path: Path) -> None:
    mail = Mail(MailSettings(mail_folder=str(tmp_path / "a/b")))
    await mail.send(Message("ada@example.com", "Grüße", "Text mit Umlaut: ü\n"))
    (path,) = sorted((tmp_path / "a/b").iterdir())
    assert path.suffix == ".eml"
    assert path.stat().st_mode & 0o077 == 0
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Grüße")
    assert message.get_content().splitlines() == ["Text mit Umlaut: ü"]


async def test_a_server_gets_the_mail_and_a_silent_one_costs_the_deadline() -> None:
    def by(server: SmtpServer, seconds: float) -> Mail:
        return Mail(
            MailSettings(
                smtp_host="127.0.0.1", smtp_port=server.port, smtp_security="none", smtp_seconds=seconds
            )
        )

    message = Message("ada@example.com", "Subject", "Hello\n")
    async with smtp_server() as server:
        await by(server, 5).send(message)
    assert b"Hello" in server.taken[0]
    async with smtp_server(hangs=True) as server:
        with pytest.raises(Unavailable):
            await by(server, 0.2).send(message)


def test_with_a_server_links_are_not_made_of_the_callers_host() -> None:
    with pytest.raises(ValidationError) as refused:
        ApiSettings(smtp_host="mail.example", public_url="")
    (sentence,) = refusals(refused.value)
    assert "WEIR_PUBLIC_URL" in sentence
    assert "WEIR_SMTP_HOST" in sentence
    assert ApiSettings(smtp_host="mail.example", public_url="https://weir.example").smtp_host
    # One setting's own trouble is named by its variable.
    with pytest.raises(ValidationError) as refused:
        ApiSettings(api_port=-1)
    assert refusals(refused.value)[0].startswith("WEIR_API_PORT: ")
