-- name: read_policies
-- Every policy ever in force, so that yesterday can be replayed.
SELECT id, legal_class, region, effective_from, effective_to, methods, max_face_fen, clause_zh, clause_en,
       confirmed
FROM compliance.policy ORDER BY id;

-- name: stored_value_limits
-- The limits in force on a day, by how the holder is known.
SELECT DISTINCT ON (holding) holding, limit_fen FROM compliance.stored_value_limit
WHERE effective_from <= :day ORDER BY holding, effective_from DESC;

-- name: lock_holders
-- Top-ups of one holder take turns until the transaction ends: each then sees what the one before added.
SELECT pg_advisory_xact_lock(hashtextextended('stored_value:' || h.id, 0))
FROM (SELECT id FROM unnest(:ids::text[]) AS g(id) ORDER BY id) h;
