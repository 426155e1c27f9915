-- name: find_by_fingerprints
-- Vouchers by the fingerprints of codes shown, live or dead.
SELECT c.fingerprint, c.live, c.tail, v.*
FROM vouchers.code c JOIN vouchers.voucher v ON v.id = c.voucher_id
WHERE c.fingerprint = ANY(:fingerprints::bytea[]);

-- name: find_vouchers
-- Vouchers by id, with the tail of the live code, in the order of their ids.
SELECT v.*, c.tail
FROM vouchers.voucher v JOIN vouchers.code c ON c.voucher_id = v.id AND c.live
WHERE v.id = ANY(:voucher_ids::text[])
ORDER BY v.id;

-- name: list_held_by
-- The vouchers of one holder, newest first.
SELECT v.*, c.tail
FROM vouchers.voucher v JOIN vouchers.code c ON c.voucher_id = v.id AND c.live
WHERE v.holder_id = :holder_id AND (:before::text IS NULL OR v.id < :before)
ORDER BY v.id DESC LIMIT :limit;

-- name: register
-- Add vouchers whose codes are new; a code that another transaction added first is left out of the answer.
WITH given AS (
    SELECT * FROM unnest(
        :ids::text[], :product_ids::text[], :issuer_ids::text[], :own_issue::boolean[], :face_fen::bigint[],
        :verified_fen::bigint[], :expires_at::timestamptz[], :holder_ids::text[], :fingerprints::bytea[],
        :tails::text[], :key_versions::int[], :boxes::bytea[])
        AS g(id, product_id, issuer_id, own_issue, face_fen, verified_fen, expires_at, holder_id,
             fingerprint, tail, key_version, box)
), added AS (
    INSERT INTO vouchers.code (fingerprint, voucher_id, generation, live, tail, key_version, box, created_at)
    SELECT fingerprint, id, 1, true, tail, key_version, box, :now FROM given ORDER BY fingerprint
    ON CONFLICT (fingerprint) DO NOTHING
    RETURNING voucher_id
)
INSERT INTO vouchers.voucher (id, product_id, issuer_id, own_issue, face_fen, verified_fen, verified_at,
    expires_at, custody, value, holder_id, created_at)
SELECT g.id, g.product_id, g.issuer_id, g.own_issue, g.face_fen, g.verified_fen, :now, g.expires_at,
    'seller_held', CASE WHEN g.verified_fen = g.face_fen THEN 'active'
                        WHEN g.verified_fen = 0 THEN 'exhausted' ELSE 'partial' END,
    g.holder_id, :now
FROM given g JOIN added a ON a.voucher_id = g.id
RETURNING id;

-- name: record_balances!
-- Take over the balances that issuers reported; what we captured ourselves is on top of them.
UPDATE vouchers.voucher v
SET verified_fen = least(v.face_fen, greatest(v.authorised_fen + v.captured_fen, v.captured_fen + b.balance_fen)),
    verified_at = :now
FROM unnest(:voucher_ids::text[], :balances_fen::bigint[]) AS b(voucher_id, balance_fen)
WHERE v.id = b.voucher_id;

-- name: claim
-- Claim vouchers for orders: rows are locked by id, and the unique index lets one live claim through.
WITH wanted AS (
    SELECT * FROM unnest(:voucher_ids::text[], :fingerprints::bytea[], :order_ids::text[],
        :claimant_ids::text[], :least_fens::bigint[])
        AS w(voucher_id, fingerprint, order_id, claimant_id, least_fen)
), locked AS (
    SELECT v.id, w.fingerprint, w.order_id, w.claimant_id
    FROM vouchers.voucher v
    JOIN wanted w ON w.voucher_id = v.id
    JOIN vouchers.code c ON c.fingerprint = w.fingerprint AND c.voucher_id = v.id AND c.live
    WHERE v.custody = ANY(:from_custody::text[]) AND v.integrity = 'clear'
      AND (v.holder_id IS NULL OR v.holder_id = w.claimant_id) AND v.expires_at > :now
      AND v.authorised_fen = 0 AND v.verified_fen - v.captured_fen >= w.least_fen
    ORDER BY v.id FOR UPDATE OF v
), claimed AS (
    INSERT INTO vouchers.claim (fingerprint, voucher_id, order_id, claimant_id, claimed_at)
    SELECT fingerprint, id, order_id, claimant_id, :now FROM locked
    ON CONFLICT DO NOTHING
    RETURNING voucher_id, order_id
)
UPDATE vouchers.voucher v SET custody = 'claimed'
FROM claimed WHERE v.id = claimed.voucher_id
RETURNING claimed.voucher_id, claimed.order_id;

-- name: live_claims
-- Who has a live claim on these vouchers, and in which order.
SELECT voucher_id, order_id, claimant_id FROM vouchers.claim
WHERE voucher_id = ANY(:voucher_ids::text[]) AND released_at IS NULL;

-- name: take_title
-- The platform becomes holder of record of vouchers, each claimed in the order named beside it.
UPDATE vouchers.voucher v SET custody = 'platform_held', holder_id = 'platform'
FROM unnest(:voucher_ids::text[], :order_ids::text[]) AS t(voucher_id, order_id)
JOIN vouchers.claim c ON c.voucher_id = t.voucher_id AND c.order_id = t.order_id AND c.released_at IS NULL
WHERE v.id = t.voucher_id AND v.custody = 'claimed'
RETURNING v.id;

-- name: rekey
-- Replace the live codes: the old ones die in this statement.
WITH given AS (
    SELECT * FROM unnest(:voucher_ids::text[], :fingerprints::bytea[], :tails::text[], :key_versions::int[],
        :boxes::bytea[]) AS g(voucher_id, fingerprint, tail, key_version, box)
), died AS (
    UPDATE vouchers.code c SET live = false FROM given g
    WHERE c.voucher_id = g.voucher_id AND c.live
    RETURNING c.voucher_id, c.generation
)
INSERT INTO vouchers.code (fingerprint, voucher_id, generation, live, tail, key_version, box, created_at)
SELECT g.fingerprint, g.voucher_id, d.generation + 1, true, g.tail, g.key_version, g.box, :now
FROM given g JOIN died d ON d.voucher_id = g.voucher_id
RETURNING voucher_id;

-- name: release
-- Give claimed vouchers back to whoever held them, when the deal does not come about.
WITH released AS (
    UPDATE vouchers.claim SET released_at = :now, release_reason = :reason
    WHERE order_id = :order_id AND voucher_id = ANY(:voucher_ids::text[]) AND released_at IS NULL
    RETURNING voucher_id
)
UPDATE vouchers.voucher v
SET custody = CASE WHEN v.holder_id IS NULL THEN 'seller_held' ELSE 'assigned' END
FROM released r WHERE v.id = r.voucher_id AND v.custody = 'claimed'
RETURNING v.id;

-- name: move_custody
-- Move vouchers from one custody to another; those that are not there are left out. One that is not clear
-- cannot be given out, but it can come back into stock.
WITH locked AS (
    SELECT id FROM vouchers.voucher
    WHERE id = ANY(:voucher_ids::text[]) AND custody = :from_custody
      AND (integrity = 'clear' OR :to_custody = 'platform_held')
    ORDER BY id FOR UPDATE
)
UPDATE vouchers.voucher v SET custody = :to_custody FROM locked l WHERE v.id = l.id RETURNING v.id;

-- name: assign
-- Reserved vouchers go to their buyer, who becomes holder of record; the claim that brought them in ends.
WITH moved AS (
    UPDATE vouchers.voucher SET custody = 'assigned', holder_id = :holder_id
    WHERE id = ANY(:voucher_ids::text[]) AND custody = 'reserved'
    RETURNING id
), ended AS (
    UPDATE vouchers.claim c SET released_at = :now, release_reason = 'assigned'
    FROM moved m WHERE c.voucher_id = m.id AND c.released_at IS NULL
)
SELECT id FROM moved;

-- name: set_integrity
-- Change how far vouchers are trusted; those already there are left out of the answer.
WITH locked AS (
    SELECT id FROM vouchers.voucher
    WHERE id = ANY(:voucher_ids::text[]) AND integrity = ANY(:from_integrity::text[])
    ORDER BY id FOR UPDATE
)
UPDATE vouchers.voucher v SET integrity = :to_integrity FROM locked l WHERE v.id = l.id RETURNING v.id;

-- name: authorise
-- Set amounts aside, if the voucher may be spent now and has that much left.
WITH wanted AS (
    SELECT * FROM unnest(:voucher_ids::text[], :amounts_fen::bigint[]) AS w(voucher_id, amount_fen)
), locked AS (
    SELECT v.id, w.amount_fen FROM vouchers.voucher v JOIN wanted w ON w.voucher_id = v.id
    WHERE v.custody = ANY(:spendable::text[]) AND v.integrity = 'clear' AND v.expires_at > :now
      AND v.verified_fen - v.captured_fen - v.authorised_fen >= w.amount_fen
    ORDER BY v.id FOR UPDATE OF v
)
UPDATE vouchers.voucher v SET authorised_fen = v.authorised_fen + l.amount_fen
FROM locked l WHERE v.id = l.id
RETURNING v.id;

-- name: unauthorise
-- Let go of amounts set aside.
UPDATE vouchers.voucher v SET authorised_fen = v.authorised_fen - w.amount_fen
FROM unnest(:voucher_ids::text[], :amounts_fen::bigint[]) AS w(voucher_id, amount_fen)
WHERE v.id = w.voucher_id
RETURNING v.id;

-- name: capture
-- Spend what was set aside, or less; the rest becomes available again.
UPDATE vouchers.voucher v
SET authorised_fen = v.authorised_fen - w.authorised_fen,
    captured_fen = v.captured_fen + w.captured_fen,
    value = CASE WHEN v.value = 'expired' THEN v.value
                 WHEN v.captured_fen + w.captured_fen = v.verified_fen THEN 'exhausted' ELSE 'partial' END
FROM unnest(:voucher_ids::text[], :authorised_fen::bigint[], :captured_fen::bigint[])
    AS w(voucher_id, authorised_fen, captured_fen)
WHERE v.id = w.voucher_id AND v.integrity = 'clear'
RETURNING v.id;

-- name: restore
-- Give captured amounts back to the same voucher.
UPDATE vouchers.voucher v
SET captured_fen = v.captured_fen - w.amount_fen,
    value = CASE WHEN v.value = 'expired' THEN v.value
                 WHEN v.captured_fen = w.amount_fen AND v.verified_fen = v.face_fen THEN 'active'
                 ELSE 'partial' END
FROM unnest(:voucher_ids::text[], :amounts_fen::bigint[]) AS w(voucher_id, amount_fen)
WHERE v.id = w.voucher_id AND v.captured_fen >= w.amount_fen
RETURNING v.id;

-- name: expire$
-- Mark vouchers whose last day has passed; returns how many.
WITH due AS (
    SELECT id FROM vouchers.voucher
    WHERE expires_at <= :now AND value NOT IN ('expired', 'exhausted')
    LIMIT :limit FOR UPDATE SKIP LOCKED
), expired AS (
    UPDATE vouchers.voucher v SET value = 'expired' FROM due d WHERE v.id = d.id RETURNING 1
)
SELECT count(*) FROM expired;

-- name: live_codes
-- The sealed live codes of vouchers.
SELECT voucher_id, generation, key_version, box FROM vouchers.code
WHERE voucher_id = ANY(:voucher_ids::text[]) AND live;

-- name: log_reveals!
-- Record that codes were opened.
INSERT INTO vouchers.reveal (voucher_id, generation, actor_id, reason, at)
SELECT voucher_id, generation, :actor_id, :reason, :now
FROM unnest(:voucher_ids::text[], :generations::int[]) AS r(voucher_id, generation);

-- name: codes_under_old_keys
-- Codes sealed under an older key, a batch at a time.
SELECT fingerprint, voucher_id, key_version, box FROM vouchers.code
WHERE key_version < :newest ORDER BY key_version LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: reseal!
-- Store codes sealed anew.
UPDATE vouchers.code c SET key_version = n.key_version, box = n.box
FROM unnest(:fingerprints::bytea[], :key_versions::int[], :boxes::bytea[]) AS n(fingerprint, key_version, box)
WHERE c.fingerprint = n.fingerprint;
