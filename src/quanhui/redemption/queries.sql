-- name: limit_reached$
-- When the oldest refusal that still counts against the operator or the store was, if the limit is reached.
SELECT greatest(
    (SELECT at FROM redemption.refusal WHERE operator_id = :operator_id AND at > :since
     ORDER BY at DESC OFFSET :most_operator - 1 LIMIT 1),
    (SELECT at FROM redemption.refusal WHERE store_id = :store_id AND at > :since
     ORDER BY at DESC OFFSET :most_store - 1 LIMIT 1));

-- name: add_refusals!
-- Keep why codes were not accepted.
INSERT INTO redemption.refusal (reason, fingerprint, store_id, operator_id, at)
SELECT r.reason, r.fingerprint, r.store_id, r.operator_id, :now
FROM unnest(:reasons::text[], :fingerprints::bytea[], :store_ids::text[], :operator_ids::text[])
    AS r(reason, fingerprint, store_id, operator_id);

-- name: add^
-- A new redemption, unless the till has used its reference or the request its key before.
INSERT INTO redemption.redemption (id, voucher_id, product_id, issuer_id, own_issue, holder_id, store_id,
    merchant_id, operator_id, request_key, till_reference, state, authorised_fen, captured_fen, awaits_issuer,
    asked_at, expires_at, created_at, captured_at)
VALUES (:id, :voucher_id, :product_id, :issuer_id, :own_issue, :holder_id, :store_id, :merchant_id,
    :operator_id, :request_key, :till_reference, :state, :authorised_fen, :captured_fen, :awaits_issuer,
    :asked_at, :expires_at, :created_at, :captured_at)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: find_by_request^
-- What an operator began under a key.
SELECT * FROM redemption.redemption WHERE operator_id = :operator_id AND request_key = :request_key;

-- name: find_by_till_reference^
-- What a store has under a reference of its tills.
SELECT * FROM redemption.redemption
WHERE store_id = :store_id AND till_reference = :till_reference AND state NOT IN ('voided', 'lapsed');

-- name: find
-- Redemptions by id.
SELECT * FROM redemption.redemption WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: lock
-- Redemptions by id, locked in the order of their ids.
SELECT * FROM redemption.redemption WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE;

-- name: mark_captured!
-- Amounts were spent.
UPDATE redemption.redemption r
SET state = 'captured', captured_fen = g.captured_fen, captured_at = :now, awaits_issuer = false
FROM unnest(:ids::text[], :captured_fen::bigint[]) AS g(id, captured_fen)
WHERE r.id = g.id;

-- name: mark_ended!
-- Redemptions that came to nothing, and why.
UPDATE redemption.redemption r SET state = :state, refusal = g.refusal, awaits_issuer = false
FROM unnest(:ids::text[], :refusals::text[]) AS g(id, refusal)
WHERE r.id = g.id;

-- name: mark_settled$
-- The merchants have been paid for these; returns how many that was news for.
WITH settled AS (
    UPDATE redemption.redemption SET state = 'settled', settled_at = :now
    WHERE id = ANY(:ids::text[]) AND state = 'captured'
    RETURNING 1
)
SELECT count(*) FROM settled;

-- name: lock_lapsed
-- Authorisations whose time is over; one that waits for an issuer is not over.
SELECT * FROM redemption.redemption
WHERE state = 'authorised' AND NOT awaits_issuer AND expires_at <= :now
ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: ask_again
-- Redemptions whose issuer has not answered for a while: it is asked again.
WITH due AS (
    SELECT id FROM redemption.redemption
    WHERE state = 'authorised' AND awaits_issuer AND asked_at <= :asked_before
    ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE redemption.redemption r SET asked_at = :now FROM due WHERE r.id = due.id
RETURNING r.id;

-- name: list_redemptions
-- Redemptions, newest first, after a cursor, as far as the reader reaches.
SELECT * FROM redemption.redemption
WHERE (:holder_id::text IS NULL OR holder_id = :holder_id)
  AND (:store_id::text IS NULL OR store_id = :store_id)
  AND (:merchant_id::text IS NULL OR merchant_id = :merchant_id)
  AND (:state::text IS NULL OR state = :state)
  AND (:before::text IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;

-- name: reversals_of
-- What was taken back of redemptions, oldest first.
SELECT * FROM redemption.reversal WHERE redemption_id = ANY(:redemption_ids::text[]) ORDER BY id;

-- name: find_reversals
-- Reversals by id.
SELECT * FROM redemption.reversal WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: lock_reversals
-- Reversals by id, locked in the order of their ids.
SELECT * FROM redemption.reversal WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE;

-- name: add_reversal!
-- A reversal, done or still to be agreed by the issuer.
INSERT INTO redemption.reversal (id, redemption_id, amount_fen, reason, operator_id, state, created_at)
VALUES (:id, :redemption_id, :amount_fen, :reason, :operator_id, 'asked', :now);

-- name: finish_reversal!
-- An amount is back on the voucher.
WITH done AS (
    UPDATE redemption.reversal SET state = 'done', done_at = :now WHERE id = :id RETURNING redemption_id, amount_fen
)
UPDATE redemption.redemption r
SET reversed_fen = r.reversed_fen + d.amount_fen,
    state = CASE WHEN r.reversed_fen + d.amount_fen = r.captured_fen THEN 'reversed' ELSE r.state END
FROM done d WHERE r.id = d.redemption_id;

-- name: refuse_reversal!
-- The issuer did not take the redemption back, and why.
UPDATE redemption.reversal SET state = 'refused', refusal = :refusal, done_at = :now WHERE id = :id;
