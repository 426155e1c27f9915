"""Sample data to try the platform with: a supermarket group, its neighbours, and people who do not exist.

`load_sample` fills an empty development database in one transaction. The divisions of the country are
real (codes and names of GB/T 2260, rounded centres); stores cluster round them, mostly in Sichuan. Everything
else is invented: issuers, brands, products of every category and legal class, customers, companies, staff.
The same seed gives the same sample, whatever else is asked for: every kind of data has dice of its own.

Vouchers of our own issue go into the registry, sealed. Vouchers of the other issuers go into a file,
one JSON object a line, which the sandbox that plays those issuers reads when it starts.
"""

from quanhui.sample.accounts import SampleOperator
from quanhui.sample.load import (
    SampleCode,
    SampleCustomer,
    SampleRefused,
    SampleSummary,
    load_sample,
)
from quanhui.sample.outside import OutsideVoucher, outside_vouchers

__all__ = [
    "OutsideVoucher",
    "SampleCode",
    "SampleCustomer",
    "SampleOperator",
    "SampleRefused",
    "SampleSummary",
    "load_sample",
    "outside_vouchers",
]
