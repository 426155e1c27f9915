-- name: read_policies
-- Every policy ever in force, so that yesterday can be replayed.
SELECT id, legal_class, region, effective_from, effective_to, methods, max_face_fen, clause_zh, clause_en,
       confirmed
FROM compliance.policy ORDER BY id;
