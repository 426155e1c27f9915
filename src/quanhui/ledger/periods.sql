-- name: close_period$
-- Close a period with all before it: closed, not_over or closed_before.
SELECT ledger.close_period(:period_id::text, :length::text, :first_day::date, :person::text, :now::timestamptz);

-- name: reopen_period$
-- Ask for a period to be opened again, or open it as a second person: asked, reopened, unknown or not_last.
SELECT ledger.reopen_period(:period_id::text, :person::text, :reason::text, :now::timestamptz);

-- name: find_period^
-- One closing by its id.
SELECT * FROM ledger.period WHERE id = :period_id;

-- name: list_periods
-- Closings, newest first, older than the cursor.
SELECT * FROM ledger.period WHERE id < :cursor::text ORDER BY id DESC LIMIT :limit;
