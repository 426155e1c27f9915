"""Statements are planned once a connection, lists with optional filters for the filters they are given."""

from quanhui.base.db import load_queries

QUERIES = """\
-- name: list_settings
-- Settings by name, all of them without one.
SELECT name, current_setting('plan_cache_mode') AS mode FROM pg_settings
WHERE (:name::text IS NULL OR name = :name);

-- name: find_settings
-- Settings by name.
SELECT name, current_setting('plan_cache_mode') AS mode FROM pg_settings WHERE name = ANY(:names::text[]);
"""


async def test_only_a_list_with_optional_filters_is_planned_for_what_it_is_given(pool, tmp_path):
    (tmp_path / "queries.sql").write_text(QUERIES)
    queries = load_queries(str(tmp_path / "module.py"))
    async with pool.acquire() as db:
        (listed,) = await queries.list_settings(db, name="port")
        (found,) = await queries.find_settings(db, names=["port"])
    assert (listed["mode"], found["mode"]) == ("force_custom_plan", "force_generic_plan")
