-- name: claim
-- Claim keys, or fetch what was answered under them. A claim in flight makes the second caller wait for it.
WITH claimed AS (
    INSERT INTO base.answer AS a (actor_id, key, request, created_at)
    SELECT w.actor_id, w.key, w.request, :now
    FROM unnest(:actor_ids::text[], :keys::text[], :requests::bytea[]) AS w(actor_id, key, request)
    ORDER BY w.actor_id, w.key
    ON CONFLICT (actor_id, key) DO UPDATE SET key = a.key
    RETURNING a.actor_id, a.key, a.request, a.status, a.body, a.xmax <> 0 AS existed
)
SELECT actor_id, key, request, status, body FROM claimed WHERE existed;

-- name: keep!
-- Keep answers beside their keys.
UPDATE base.answer a SET status = k.status, body = k.body
FROM unnest(:actor_ids::text[], :keys::text[], :statuses::int[], :bodies::bytea[])
    AS k(actor_id, key, status, body)
WHERE a.actor_id = k.actor_id AND a.key = k.key;

-- name: find^
-- The answer kept under a key, if any.
SELECT request, status, body FROM base.answer WHERE actor_id = :actor_id AND key = :key;

-- name: forget$
-- Drop answers older than the time a client may still retry.
WITH gone AS (DELETE FROM base.answer WHERE created_at < :before RETURNING 1)
SELECT count(*) FROM gone;
