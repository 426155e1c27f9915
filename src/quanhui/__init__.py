"""Quanhui 券汇：券回收 buyback → 资金结算 settlement → 二次分发 redistribution → 核销 redemption.

Read `story.py` first: it says which fact leads to which verb. Every folder beside it is a part of the
business; its `__init__` tells that part's tale and is the only door into it.
"""

__version__ = "0.1.0"
