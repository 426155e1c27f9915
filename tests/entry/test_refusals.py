"""Vouchers that cannot be sold: each refusal by its name, or, where a name would help to guess, all alike."""

import random
import re

import pytest
from factories.api import SELL, Api, offer, problem_of

from quanhui.base.db import transaction
from quanhui.catalogue import load_catalogue, make_code
from quanhui.vouchers import fingerprint_of

AN_ID = re.compile(r"\b[a-z]{3,4}_[0-9a-z]{26}\b")

pytestmark = pytest.mark.usefixtures("_nothing_is_given_away")


async def change_voucher(api: Api, code: str, change: str) -> None:
    """Change the voucher of one of our own codes behind the platform's back."""
    catalogue = await load_catalogue(api.desk.pool)
    (candidate,) = catalogue.recognise(code)
    issuer = catalogue.issuer_of(candidate.product_id)
    fingerprint = fingerprint_of(api.desk.keyring, issuer_id=issuer.id, code=code)
    done = await api.desk.pool.execute(
        f"UPDATE vouchers.voucher SET {change}"
        " WHERE id = (SELECT voucher_id FROM vouchers.code WHERE fingerprint = $1)",
        fingerprint,
    )
    assert done == "UPDATE 1"


async def unknown_code(api: Api, code: str) -> str:
    """A code in the form of another one, with a right check character, that nobody ever issued."""
    catalogue = await load_catalogue(api.desk.pool)
    (candidate,) = catalogue.recognise(code)
    return make_code(catalogue.products[candidate.product_id].code_format, random.Random(1))


async def test_a_text_that_is_no_code_is_called_so(api, seller, codes):
    code = next(codes)
    wrong = code[:-1] + ("2" if code[-1] != "2" else "3")
    for text in ("NOT A CODE AT ALL", "0000", "券码券码", "'; DROP TABLE vouchers.voucher; --", wrong):
        assert problem_of(await offer(api, seller, text)) == "code-malformed"


async def test_a_code_of_another_product_is_told_apart(api, seller, codes):
    code = next(codes)
    catalogue = await load_catalogue(api.desk.pool)
    (candidate,) = catalogue.recognise(code)
    other = next(each for each in catalogue.products if each != candidate.product_id)
    assert problem_of(await offer(api, seller, code, product_id=other)) == "product-mismatch"
    assert problem_of(await offer(api, seller, "NOPE 1234", product_id="vpr_nothing")) == "code-malformed"


async def test_what_is_worthless_is_called_so(api, seller, codes):
    expired, empty = next(codes), next(codes)
    await change_voucher(api, expired, "expires_at = now() - interval '1 day'")
    await change_voucher(api, empty, "captured_fen = verified_fen, value = 'exhausted'")
    assert problem_of(await offer(api, seller, expired)) == "voucher-expired"
    assert problem_of(await offer(api, seller, empty)) == "voucher-empty"


async def test_refusals_that_would_help_to_guess_are_the_same_to_the_byte(api, seller, codes):
    frozen, held = next(codes), next(codes)
    await change_voucher(api, frozen, "integrity = 'frozen'")
    await change_voucher(api, held, "holder_id = 'cus_somebody_else'")
    told = [await offer(api, seller, code) for code in (await unknown_code(api, frozen), frozen, held)]
    assert [problem_of(each) for each in told] == ["voucher-not-accepted"] * 3
    assert len({AN_ID.sub("<id>", each.text) for each in told}) == 1
    assert len({len(each.headers["content-length"]) for each in told}) == 1


async def test_a_code_that_stands_twice_is_refused_the_second_time(api, seller, codes):
    code = next(codes)
    answer = await api.post(SELL, {"items": [{"code": code}, {"code": code.lower()}]}, token=seller)
    assert [line["problem"] and line["problem"]["type"] for line in answer.json()["lines"]] == [
        None,
        "/problems/duplicate-code",
    ]


async def test_a_claimed_voucher_is_refused_like_an_unknown_one(api, sample, seller, codes):
    code = next(codes)
    owner = sample.summary.sign_in_customers[1].id
    token = await api.customer_token(owner)
    order = (await offer(api, token, code)).json()
    accepted = await api.post(
        f"{SELL}/{order['id']}/accept",
        {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": await api.own(owner)},
        token=token,
    )
    assert accepted.status_code == 200
    assert problem_of(await offer(api, seller, code)) == "voucher-not-accepted"


async def test_a_quote_that_lapsed_cannot_be_accepted(api, sample, codes):
    owner = sample.summary.sign_in_customers[2].id
    token = await api.customer_token(owner)
    order = (await offer(api, token, next(codes))).json()
    async with transaction(api.desk.pool) as db:
        await db.execute("SET LOCAL session_replication_role = replica")  # a quote is immutable otherwise
        await db.execute(
            "UPDATE buyback.quote SET expires_at = now() - interval '1 second' WHERE order_id = $1",
            order["id"],
        )
    choice = {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": await api.own(owner)}
    answer = await api.post(f"{SELL}/{order['id']}/accept", choice, token=token)
    assert (answer.status_code, problem_of(answer)) == (410, "quote-expired")


async def test_a_payee_of_somebody_else_is_not_paid(api, sample, codes):
    mine, theirs = sample.summary.sign_in_customers[3].id, sample.summary.sign_in_customers[4].id
    token = await api.customer_token(mine)
    order = (await offer(api, token, next(codes))).json()
    told = []
    for payee_id in (await api.own(theirs), "pya_01jd8x9k2mf3wvq5t7y1h4n6pz"):
        choice = {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": payee_id}
        answer = await api.post(f"{SELL}/{order['id']}/accept", choice, token=token)
        told.append((answer.status_code, problem_of(answer), answer.content))
    assert told[0] == told[1]
    assert told[0][0] < 500
