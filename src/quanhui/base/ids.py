"""Public ids are TypeIDs: a prefix that says what it is, then a UUIDv7 that sorts by time.

The same text is the primary key (see docs/adr/0006): one name for a thing in the API, the database,
the logs and the evidence. Keys are ASCII and every id column has the collation "C".
"""

from typing import Final

from typeid import TypeID
from typeid.errors import TypeIDException

ID_LENGTH: Final = 26


def new_id(prefix: str) -> str:
    """A fresh id such as `ord_01h455vb4pex5vsknk084sn02q`; ids made later sort later."""
    return str(TypeID(prefix))


def is_id(text: str, prefix: str) -> bool:
    """Whether a text is a well-formed id of the given kind."""
    if not text.isascii() or len(text) != len(prefix) + 1 + ID_LENGTH:
        return False
    try:
        return TypeID.from_string(text).prefix == prefix
    except TypeIDException:
        return False
