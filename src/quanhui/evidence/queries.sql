-- name: record!
-- Queue events, in the order given, in the transaction of the change they tell of.
INSERT INTO evidence.pending (voucher_id, subject, payload)
SELECT voucher_id, subject, payload
FROM unnest(:voucher_ids::text[], :subjects::text[], :payloads::text[])
     WITH ORDINALITY AS e(voucher_id, subject, payload, position)
ORDER BY position;

-- name: look^
-- Whether anything waits, how large the tree is, and how much of it is signed. Locks nothing.
SELECT EXISTS (SELECT FROM evidence.pending) AS waiting, size,
       (SELECT max(size) FROM evidence.checkpoint) AS signed
FROM evidence.head;

-- name: lock_head^
-- The head of the tree, locked until commit; nothing when another sequencer holds it.
SELECT size, root FROM evidence.head FOR UPDATE SKIP LOCKED;

-- name: take_pending
-- Remove the oldest committed events from the queue. One statement is one snapshot, and whoever sees an
-- event sees every earlier event of the same voucher, because its writer held the lock of that voucher.
DELETE FROM evidence.pending
WHERE id IN (SELECT id FROM evidence.pending ORDER BY id LIMIT :limit)
RETURNING id, voucher_id, subject, payload;

-- name: find_tips
-- The newest leaf of each voucher that has one.
SELECT v.voucher_id, tip.sequence, tip.body
FROM unnest(:voucher_ids::text[]) AS v(voucher_id)
CROSS JOIN LATERAL (
    SELECT sequence, body FROM evidence.leaf
    WHERE voucher_id = v.voucher_id ORDER BY sequence DESC LIMIT 1) AS tip;

-- name: find_tiles
-- Tiles by level and index.
SELECT t.level, t.index, t.hashes
FROM unnest(:levels::int[], :indexes::bigint[]) AS w(level, index)
JOIN evidence.tile t ON t.level = w.level AND t.index = w.index;

-- name: put_tiles!
-- Write new tiles and the grown ones at the right edge.
INSERT INTO evidence.tile (level, index, hashes)
SELECT * FROM unnest(:levels::int[], :indexes::bigint[], :hashes::bytea[])
ON CONFLICT (level, index) DO UPDATE SET hashes = excluded.hashes;

-- name: advance_head$
-- Compare and swap: the head moves only from the size this sequencer started at.
UPDATE evidence.head SET size = :size, root = :root WHERE size = :from_size RETURNING size;

-- name: latest_checkpoint^
-- The newest signed head.
SELECT size, root, note, verifier_key, signed_at FROM evidence.checkpoint ORDER BY size DESC LIMIT 1;

-- name: keep_checkpoint!
-- Keep a signed head. Signing is deterministic, so a second process at the same size has the same note.
INSERT INTO evidence.checkpoint (size, root, note, verifier_key, signed_at)
VALUES (:size, :root, :note, :verifier_key, :now)
ON CONFLICT (size) DO NOTHING;

-- name: thin_checkpoint!
-- Drop a superseded head of the same minute: a busy log signs ten a second, an audit needs one a minute.
DELETE FROM evidence.checkpoint WHERE size = :size AND signed_at >= :minute;

-- name: find_events
-- Events by subject or by voucher, in the tree or still waiting, in one snapshot.
SELECT leaf_index, payload, salt, body FROM (
    SELECT leaf_index, NULL::bigint AS waiting, payload, salt, body FROM evidence.leaf
    WHERE subject = ANY(:subjects::text[]) OR voucher_id = ANY(:voucher_ids::text[])
    UNION ALL
    SELECT NULL, id, payload, NULL, NULL FROM evidence.pending
    WHERE subject = ANY(:subjects::text[]) OR voucher_id = ANY(:voucher_ids::text[])
) AS e
ORDER BY leaf_index NULLS LAST, waiting
LIMIT :limit;
