"""Customers, companies and staff who do not exist, with numbers that pass their check digits.

Identity numbers carry the sequence 000, which is never given to a person, so none belongs to anybody.
"""

import base64
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from random import Random

import msgspec

from quanhui.base.check_digits import credit_code_check, id_number_check
from quanhui.customers import Enrolment, PayeeKind, Person
from quanhui.places import RegionLevel
from quanhui.sample.dice import dice
from quanhui.sample.divisions import divisions

FIRST_PHONE = 19_900_000_000
OLDEST_BIRTHDAY = date(1942, 1, 1)
YOUNGEST_BIRTHDAY = date(2006, 12, 31)
ELDER_BORN_BEFORE = date(1961, 1, 1)
BIRTHDAY_STRIDE_DAYS = 7_919
SIGN_IN_SAMPLES = 12
VERIFIED_PERCENT = 85
ELDER_MODE_PERCENT = 60
NEVER_GIVEN_SEQUENCE = "000"
PROVINCE_OF_ORIGIN = "51"

SURNAMES = (
    "李王张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾"
    "彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏"
)
GIVEN = (
    "嘉怡", "子涵", "雨桐", "思远", "明轩", "佳宁", "晓东", "建国", "秀英", "桂兰", "志强",
    "丽华", "春燕", "文博", "浩然", "欣怡", "国庆", "玉珍", "永福", "小川", "蓉", "敏",
    "静", "伟", "磊", "洋", "勇", "艳", "杰", "涛", "成林", "学文", "红梅",
    "海燕", "家豪", "梓萱", "诗涵", "俊杰", "淑芬", "德明",
)  # fmt: skip
COMPANIES = (
    "成都锦悦优选商务服务有限公司",
    "成都沐川礼遇科技有限公司",
    "绵阳涪江福利管理有限公司",
    "重庆渝悦礼品有限公司",
    "德阳旌城工会服务有限公司",
    "南充嘉陵江百货采购有限公司",
    "泸州酒城福礼商贸有限公司",
    "宜宾三江员工服务有限公司",
)
CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


class Company(msgspec.Struct, frozen=True):
    """A company and its unified social credit code."""

    name: str
    credit_code: str


def make_customers(seed: int, count: int, *, now: datetime) -> Iterator[Enrolment]:
    """People with phones from `FIRST_PHONE` on; most are verified and have an account to be paid on.

    The first few are always verified: they are the ones a newcomer signs in as.
    """
    throw = dice(seed, "customers")
    origins = [
        code
        for code, division in divisions().items()
        if code.startswith(PROVINCE_OF_ORIGIN) and division.region.level is RegionLevel.DISTRICT
    ]
    first_step = throw.randrange(BIRTHDAY_STRIDE_DAYS)
    for position in range(count):
        origin = origins[position % len(origins)]
        birthday = _birthday(first_step + position)
        is_verified = position < SIGN_IN_SAMPLES or throw.randrange(100) < VERIFIED_PERCENT
        phone = str(FIRST_PHONE + position)
        name = throw.choice(SURNAMES) + throw.choice(GIVEN)
        is_elder = birthday < ELDER_BORN_BEFORE and throw.randrange(100) < ELDER_MODE_PERCENT
        yield Enrolment(
            person=Person(
                phone=phone,
                display_name=name[0] + "先生" * (position % 2) + "女士" * (1 - position % 2),
                real_name=name if is_verified else None,
                id_number=_id_number(origin, birthday) if is_verified else None,
            ),
            created_at=now - timedelta(days=throw.randrange(1, 700)),
            elder_mode=is_elder,
            payees=((PayeeKind.SANDBOX, f"sandbox-{phone}"),) if is_verified else (),
        )


def make_companies(seed: int) -> list[Company]:
    """Companies with credit codes (GB 32100): registered by market supervision as enterprises, in Chengdu."""
    throw = dice(seed, "companies")
    companies = []
    for name in COMPANIES:
        first_17 = "91510100MA" + "".join(throw.choices(CREDIT_ALPHABET, k=7))
        companies.append(Company(name, first_17 + credit_code_check(first_17)))
    return companies


def totp_secret(throw: Random) -> str:
    """160 bits in base 32 that repeat with the seed: for accounts that protect nothing."""
    return base64.b32encode(throw.randbytes(20)).decode()


def _birthday(steps: int) -> date:
    """A day so many strides on. Days and origins share no factor, so a pair of them does not repeat."""
    span = (YOUNGEST_BIRTHDAY - OLDEST_BIRTHDAY).days
    return OLDEST_BIRTHDAY + timedelta(days=steps * BIRTHDAY_STRIDE_DAYS % span)


def _id_number(origin: str, birthday: date) -> str:
    first_17 = f"{origin}{birthday:%Y%m%d}{NEVER_GIVEN_SEQUENCE}"
    return first_17 + id_number_check(first_17)
