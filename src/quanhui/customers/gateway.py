"""The one outside party customers need: whoever sends short messages 短信网关."""

from datetime import datetime

from quanhui.base.http import NoAnswer, SignedClient

PATH = "/v1/messages"
_TOO_MANY_REQUESTS = 429


class SmsGateway:
    """Sends template messages through a signed HTTP service."""

    def __init__(self, client: SignedClient) -> None:
        self._client = client

    async def send(
        self, *, to: str, template: str, params: dict[str, str], message_id: str, now: datetime
    ) -> bool:
        """Hand one message over; True if taken, False if refused for good (such as a dead number).

        A repeat carries the same `message_id`, by which the service can tell it from a new message. Raises
        `NoAnswer` when the service did not answer or is too busy: try again later.
        """
        payload = {"to": to, "template": template, "params": params}
        reply = await self._client.post(PATH, payload, message_id=message_id, now=now)
        if reply.status == _TOO_MANY_REQUESTS:
            raise NoAnswer(party="sms")
        return 200 <= reply.status < 300  # noqa: PLR2004 - the success class of HTTP
