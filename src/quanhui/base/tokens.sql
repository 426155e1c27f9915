-- name: add_session!
-- Keep a new session under the hash of its token.
INSERT INTO base.session
    (id, kind, actor_id, acts_for, token_hash, device_id, created_at, last_used_at, expires_at)
VALUES (:id, :kind, :actor_id, :acts_for, :token_hash, :device_id, :now, :now, :expires_at);

-- name: end_oldest_sessions!
-- End all but the newest sessions of an actor.
UPDATE base.session SET revoked_at = :now
WHERE id IN (
    SELECT id FROM base.session
    WHERE actor_id = :actor_id AND revoked_at IS NULL AND expires_at > :now
    ORDER BY id DESC
    OFFSET :keep);

-- name: end_session!
-- End one session.
UPDATE base.session SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL;

-- name: end_sessions!
-- End every session of these actors.
UPDATE base.session SET revoked_at = :now WHERE actor_id = ANY(:actor_ids::text[]) AND revoked_at IS NULL;

-- name: forget_sessions$
-- Drop sessions that ended by themselves long ago.
WITH gone AS (DELETE FROM base.session WHERE expires_at < :before RETURNING 1)
SELECT count(*) FROM gone;
