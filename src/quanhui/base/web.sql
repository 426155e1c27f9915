-- name: claim^
-- Claim a key, or fetch what was answered under it. A claim in flight makes the second caller wait for it.
WITH claimed AS (
    INSERT INTO base.answer AS a (actor_id, key, request, created_at)
    VALUES (:actor_id, :key, :request, :now)
    ON CONFLICT (actor_id, key) DO UPDATE SET key = a.key
    RETURNING a.request, a.status, a.body, a.xmax <> 0 AS existed
)
SELECT request, status, body FROM claimed WHERE existed;

-- name: keep!
-- Keep the answer beside its key.
UPDATE base.answer SET status = :status, body = :body WHERE actor_id = :actor_id AND key = :key;

-- name: find^
-- The answer kept under a key, if any.
SELECT request, status, body FROM base.answer WHERE actor_id = :actor_id AND key = :key;

-- name: forget$
-- Drop answers older than the time a client may still retry.
WITH gone AS (DELETE FROM base.answer WHERE created_at < :before RETURNING 1)
SELECT count(*) FROM gone;
