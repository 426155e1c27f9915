-- name: lock_tallies
-- The tallies of these keys, locked; a key not seen before starts at nothing.
INSERT INTO base.attempt AS a (kind, key, tries, rounds, since)
SELECT k.kind, k.key, 0, 0, :now
FROM unnest(:kinds::text[], :keys::bytea[]) AS k(kind, key)
ORDER BY k.kind, k.key
ON CONFLICT (kind, key) DO UPDATE SET tries = a.tries
RETURNING a.kind, a.key, a.tries, a.rounds, a.since, a.blocked_until;

-- name: store_tallies!
-- Write the tallies back.
UPDATE base.attempt a
SET tries = t.tries, rounds = t.rounds, since = t.since, blocked_until = t.blocked_until
FROM unnest(:kinds::text[], :keys::bytea[], :tries::int[], :rounds::int[], :since::timestamptz[],
            :blocked_until::timestamptz[]) AS t(kind, key, tries, rounds, since, blocked_until)
WHERE a.kind = t.kind AND a.key = t.key;

-- name: forget_tally!
-- Forget one key.
DELETE FROM base.attempt WHERE kind = :kind AND key = :key;

-- name: forget_old_tallies$
-- Forget keys whose round began long ago and whose block is over.
WITH gone AS (
    DELETE FROM base.attempt WHERE since < :before AND coalesce(blocked_until < :before, true) RETURNING 1)
SELECT count(*) FROM gone;
