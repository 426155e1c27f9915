"""What every part stands on: money, time, ids, errors, the database, the outbox, the HTTP edge.

Nothing here knows what a voucher is. Import the modules by name, for example
`from quanhui.base import money` or `from quanhui.base.errors import Problem`.
"""
