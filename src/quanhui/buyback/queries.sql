-- name: insert_orders!
-- Orders with their lines and, where there is one, their quotes.
WITH o AS (
    INSERT INTO buyback.buyback_order (id, seller_id, store_id, device_id, state, long_quote, hold_reason,
        decision_id, reason, created_at, updated_at)
    SELECT id, seller_id, store_id, device_id, state, long_quote, hold_reason, decision_id, reason,
        created_at, created_at
    FROM unnest(:ids::text[], :seller_ids::text[], :store_ids::text[], :device_ids::text[], :states::text[],
        :long_quotes::boolean[], :hold_reasons::text[], :decision_ids::text[], :order_reasons::text[],
        :created_ats::timestamptz[])
        AS o(id, seller_id, store_id, device_id, state, long_quote, hold_reason, decision_id, reason,
             created_at)
), q AS (
    INSERT INTO buyback.quote (id, order_id, state, gross_fen, fee_fen, net_fen, methods, model_version,
        policy_version, inputs_hash, issued_at, expires_at)
    SELECT id, order_id, state, gross_fen, fee_fen, net_fen, methods, model_version, policy_version,
        inputs_hash, issued_at, expires_at
    FROM jsonb_populate_recordset(NULL::buyback.quote, :quotes::jsonb)
)
INSERT INTO buyback.line (order_id, number, fingerprint, voucher_id, product_id, tail, refusal, face_fen,
    balance_fen, gross_fen, fee_fen, net_fen, expires_at, reasons)
SELECT l.order_id, l.number, l.fingerprint, l.voucher_id, l.product_id, l.tail, l.refusal, l.face_fen,
    l.balance_fen, l.gross_fen, l.fee_fen, l.net_fen, l.expires_at, l.reasons::jsonb
FROM unnest(:line_orders::text[], :numbers::int[], :fingerprints::bytea[], :voucher_ids::text[],
    :product_ids::text[], :tails::text[], :refusals::text[], :face_fens::bigint[], :balance_fens::bigint[],
    :gross_fens::bigint[], :fee_fens::bigint[], :net_fens::bigint[], :expires_ats::timestamptz[],
    :reasons::text[])
    AS l(order_id, number, fingerprint, voucher_id, product_id, tail, refusal, face_fen, balance_fen,
         gross_fen, fee_fen, net_fen, expires_at, reasons);

-- name: insert_quote!
-- A fresh quote for an order that a person looked at, with the new prices of its lines.
WITH q AS (
    INSERT INTO buyback.quote (id, order_id, state, gross_fen, fee_fen, net_fen, methods, model_version,
        policy_version, inputs_hash, issued_at, expires_at)
    SELECT id, order_id, state, gross_fen, fee_fen, net_fen, methods, model_version, policy_version,
        inputs_hash, issued_at, expires_at
    FROM jsonb_populate_recordset(NULL::buyback.quote, :quotes::jsonb)
)
UPDATE buyback.line l
SET refusal = n.refusal, gross_fen = n.gross_fen, fee_fen = n.fee_fen, net_fen = n.net_fen,
    reasons = n.reasons::jsonb
FROM unnest(:numbers::int[], :refusals::text[], :gross_fens::bigint[], :fee_fens::bigint[],
    :net_fens::bigint[], :reasons::text[]) AS n(number, refusal, gross_fen, fee_fen, net_fen, reasons)
WHERE l.order_id = :id AND l.number = n.number;

-- name: lock_orders
-- Orders for update, in the order of their ids, with their lines and newest quotes.
SELECT o.*,
    (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.number) FROM buyback.line l WHERE l.order_id = o.id) AS lines,
    (SELECT to_jsonb(q) FROM buyback.quote q WHERE q.order_id = o.id ORDER BY q.id DESC LIMIT 1) AS quote
FROM buyback.buyback_order o WHERE o.id = ANY(:order_ids::text[]) ORDER BY o.id FOR UPDATE OF o;

-- name: find_orders
-- Orders by id, with their lines and newest quotes.
SELECT o.*,
    (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.number) FROM buyback.line l WHERE l.order_id = o.id) AS lines,
    (SELECT to_jsonb(q) FROM buyback.quote q WHERE q.order_id = o.id ORDER BY q.id DESC LIMIT 1) AS quote
FROM buyback.buyback_order o WHERE o.id = ANY(:order_ids::text[]) ORDER BY o.id;

-- name: list_orders
-- Orders newest first, after a cursor, narrowed by seller, store and state.
SELECT o.*,
    (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.number) FROM buyback.line l WHERE l.order_id = o.id) AS lines,
    (SELECT to_jsonb(q) FROM buyback.quote q WHERE q.order_id = o.id ORDER BY q.id DESC LIMIT 1) AS quote
FROM buyback.buyback_order o
WHERE (:seller_id::text IS NULL OR o.seller_id = :seller_id)
  AND (:store_id::text IS NULL OR o.store_id = :store_id)
  AND (:state::text IS NULL OR o.state = :state)
  AND (:before::text IS NULL OR o.id < :before)
ORDER BY o.id DESC LIMIT :limit;

-- name: accept_orders!
-- The quotes are accepted and the orders move on with the ways of payment that were chosen.
WITH q AS (
    UPDATE buyback.quote SET state = 'accepted', decided_at = :now WHERE id = ANY(:quote_ids::text[])
)
UPDATE buyback.buyback_order o
SET state = a.state, method = a.method, payee_id = a.payee_id, goods_store_id = a.goods_store_id,
    hold_reason = a.hold_reason, updated_at = :now
FROM unnest(:order_ids::text[], :states::text[], :methods::text[], :payee_ids::text[],
    :goods_store_ids::text[], :hold_reasons::text[])
    AS a(id, state, method, payee_id, goods_store_id, hold_reason)
WHERE o.id = a.id;

-- name: close_quote!
-- An open quote is declined.
UPDATE buyback.quote SET state = :state, decided_at = :now WHERE order_id = :order_id AND state = 'issued';

-- name: move_orders!
-- Move orders that are in one of the given states; the others stay, so repeating changes nothing.
UPDATE buyback.buyback_order
SET state = :state, reason = coalesce(:reason::text, reason), updated_at = :now
WHERE id IN (SELECT id FROM buyback.buyback_order
             WHERE id = ANY(:order_ids::text[]) AND state = ANY(:before::text[]) ORDER BY id FOR UPDATE);

-- name: expire_quotes
-- Quotes whose time is over expire, with their orders. Only the order is locked, as everywhere: whoever is
-- accepting holds that lock and goes first.
WITH due AS (
    SELECT q.id AS quote_id, o.id AS order_id
    FROM buyback.quote q JOIN buyback.buyback_order o ON o.id = q.order_id
    WHERE q.state = 'issued' AND q.expires_at <= :now AND o.state = 'quoted'
    ORDER BY q.expires_at LIMIT :limit FOR UPDATE OF o SKIP LOCKED
), expired AS (
    UPDATE buyback.quote q SET state = 'expired', decided_at = :now FROM due d WHERE q.id = d.quote_id
)
UPDATE buyback.buyback_order o SET state = 'quote_expired', updated_at = :now
FROM due d WHERE o.id = d.order_id
RETURNING o.id;

-- name: close_settled$
-- Orders settled long enough ago are closed; returns how many.
WITH due AS (
    SELECT id FROM buyback.buyback_order WHERE state = 'settled' AND updated_at <= :before
    ORDER BY updated_at LIMIT :limit FOR UPDATE SKIP LOCKED
), closed AS (
    UPDATE buyback.buyback_order o SET state = 'closed', updated_at = :now FROM due d WHERE o.id = d.id
    RETURNING 1
)
SELECT count(*) FROM closed;

-- name: insert_appeal!
-- What a seller says against a rejection.
INSERT INTO buyback.appeal (id, order_id, words, created_at) VALUES (:id, :order_id, :words, :now);

-- name: appeals_of
-- The appeals of an order, oldest first.
SELECT id, words, created_at FROM buyback.appeal WHERE order_id = :order_id ORDER BY id;
