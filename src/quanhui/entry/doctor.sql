-- name: has_migrations$
-- Whether the table of migrations exists, which the first migration run creates.
SELECT to_regclass('public.migration') IS NOT NULL;

-- name: list_migrations
-- The migrations that ran on this database.
SELECT name FROM public.migration;

-- name: count_jobs^
-- How many jobs are due, how long the oldest of them has been, and how many were given up.
SELECT count(*) FILTER (WHERE dead_at IS NULL AND available_at <= now()) AS due,
       coalesce(extract(epoch FROM now() - min(available_at) FILTER (
           WHERE dead_at IS NULL AND available_at <= now()))::bigint, 0) AS longest_wait_s,
       count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead
FROM base.job;
