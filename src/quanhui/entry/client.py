"""The API as a program sees it: for `quanhui demo` and the commands that sell, buy and redeem."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import pyotp

PROBLEM = 400
POLL_S = 0.1
TIMEOUT_S = 15.0


class ApiProblem(Exception):
    """The API refused. `view` is the problem as it came: type, titles, what to do, facts."""

    def __init__(self, view: Mapping[str, Any]) -> None:
        super().__init__(f"{view.get('title')} · {view.get('title_en')}")
        self.view = view

    @property
    def code(self) -> str:
        """The last part of the problem's type."""
        return str(self.view.get("type", "")).rsplit("/", 1)[-1]


class Api:
    """Calls of one person, signed in or not. Each command gets a fresh `Idempotency-Key`."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, token: str | None = None) -> None:
        self._http = http
        self.base_url = base_url
        self.token = token

    async def get(self, path: str, **query: Any) -> Any:
        """Read; raises `ApiProblem`."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return await self._send("GET", path, params=given)

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Command; raises `ApiProblem`."""
        return await self._send("POST", path, json=body, headers={"idempotency-key": str(uuid.uuid4())})

    async def _send(self, method: str, path: str, **more: Any) -> Any:
        headers = dict(more.pop("headers", {}))
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        async with self._http.request(method, self.base_url + path, headers=headers, **more) as response:
            is_json = "json" in response.content_type
            answer = await response.json(content_type=None) if is_json else await response.text()
        if response.status >= PROBLEM:
            raise ApiProblem(answer if isinstance(answer, dict) else {"title": f"HTTP {response.status}"})
        return answer

    async def sign_in_customer(self, phone: str, read_code: Callable[[str], Awaitable[str]]) -> "Api":
        """Ask for a code, read it where it arrives, sign in; returns the calls of that person."""
        await self.post("/v1/auth/customer/code", {"phone": phone})
        answer = await self.post(
            "/v1/auth/customer/sign-in", {"phone": phone, "code": await read_code(phone)}
        )
        return Api(self._http, self.base_url, answer["token"])

    async def sign_in_staff(self, operator: Mapping[str, Any]) -> "Api":
        """Sign in with login, password and the one-time password of this moment."""
        totp = pyotp.TOTP(operator["totp_secret"])
        for _ in range(2):
            try:
                answer = await self.post(
                    "/v1/auth/staff/sign-in",
                    {
                        "login": operator["login"],
                        "password": operator["password"],
                        "one_time_password": totp.now(),
                    },
                )
            except ApiProblem as problem:
                # A one-time password works once; the next one comes within half a minute.
                if problem.code != "sign-in-refused":
                    raise
                await asyncio.sleep(totp.interval - time.time() % totp.interval + 0.1)
                continue
            return Api(self._http, self.base_url, answer["token"])
        raise ApiProblem({"title": "员工登录失败", "title_en": "staff sign-in failed"})

    async def until(self, path: str, reached: Callable[[Any], bool], *, timeout_s: float = TIMEOUT_S) -> Any:
        """Read until what comes back satisfies `reached`; raises `TimeoutError` with what came last."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                answer = await self.get(path)
            except ApiProblem as problem:
                if problem.code != "receipt-not-ready":
                    raise
                answer = None
            if answer is not None and reached(answer):
                return answer
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path}: {answer}")
            await asyncio.sleep(POLL_S)
