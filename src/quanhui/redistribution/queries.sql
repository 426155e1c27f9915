-- name: take_in
-- Vouchers of buyback orders become stock; one that came in with this order before is passed over.
INSERT INTO redistribution.listing
    (id, voucher_id, order_id, product_id, face_fen, value_fen, cost_fen, expires_at, state, created_at)
SELECT g.id, g.voucher_id, g.order_id, g.product_id, g.face_fen, g.value_fen, g.cost_fen, g.expires_at,
       'draft', :now
FROM unnest(:ids::text[], :voucher_ids::text[], :order_ids::text[], :product_ids::text[], :face_fen::bigint[],
            :value_fen::bigint[], :cost_fen::bigint[], :expires_at::timestamptz[])
     AS g(id, voucher_id, order_id, product_id, face_fen, value_fen, cost_fen, expires_at)
ON CONFLICT ON CONSTRAINT stocked_once DO NOTHING
RETURNING *;

-- name: price_steps
-- The table of automatic prices.
SELECT product_id, min_days, price_bps FROM redistribution.price_step;

-- name: lock_unpriced
-- New stock that the price table has not looked at yet, oldest first; what another worker prices is passed over.
SELECT * FROM redistribution.listing WHERE state = 'draft' AND automatic
ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: leave_to_people!
-- These listings wait for a person to set their price.
UPDATE redistribution.listing SET automatic = false WHERE id = ANY(:ids::text[]);

-- name: lock_listings
-- Listings by id, locked in the order of their ids.
SELECT * FROM redistribution.listing WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE;

-- name: lock_listings_of_vouchers
-- The unsold listings of vouchers, locked in the order of their ids.
SELECT * FROM redistribution.listing
WHERE voucher_id = ANY(:voucher_ids::text[]) AND state IN ('draft', 'listed', 'delisted', 'reserved')
ORDER BY id FOR UPDATE;

-- name: put_up!
-- Listings are for sale at these prices.
UPDATE redistribution.listing l SET state = 'listed', price_fen = p.price_fen
FROM unnest(:ids::text[], :prices_fen::bigint[]) AS p(id, price_fen)
WHERE l.id = p.id;

-- name: take_down!
-- Listings are not for sale until a person puts them up again.
UPDATE redistribution.listing SET state = 'delisted', automatic = false WHERE id = ANY(:ids::text[]);

-- name: expire
-- Unsold vouchers whose last day has passed leave the market; sold ones that nobody looked at are closed.
WITH due AS (
    SELECT id FROM redistribution.listing
    WHERE expires_at <= :now AND state IN ('draft', 'listed', 'delisted', 'sold')
    ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE redistribution.listing l
SET state = CASE WHEN l.state = 'sold' THEN 'closed' ELSE 'expired' END
FROM due WHERE l.id = due.id
RETURNING l.*;

-- name: newest_listed
-- What is for sale, newest first, after a cursor.
SELECT * FROM redistribution.listing
WHERE state = 'listed' AND expires_at > :now
  AND (:product_ids::text[] IS NULL OR product_id = ANY(:product_ids))
  AND (:min_fen::bigint IS NULL OR price_fen >= :min_fen)
  AND (:max_fen::bigint IS NULL OR price_fen <= :max_fen)
  AND (:before::text IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;

-- name: cheapest_listed
-- What is for sale, lowest price first, after a cursor of price and id.
SELECT * FROM redistribution.listing
WHERE state = 'listed' AND expires_at > :now
  AND (:product_ids::text[] IS NULL OR product_id = ANY(:product_ids))
  AND (:min_fen::bigint IS NULL OR price_fen >= :min_fen)
  AND (:max_fen::bigint IS NULL OR price_fen <= :max_fen)
  AND (price_fen, id) > (:after_fen::bigint, :after_id::text)
ORDER BY price_fen, id LIMIT :limit;

-- name: stock
-- Everything that was ever in stock, newest first, after a cursor.
SELECT * FROM redistribution.listing
WHERE (:state::text IS NULL OR state = :state) AND (:before::text IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;

-- name: find_listings
-- Listings by id.
SELECT * FROM redistribution.listing WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: lock_buyer!
-- One reservation at a time for one buyer, so that the limit on unpaid listings counts them all.
SELECT pg_advisory_xact_lock(hashtextextended('redistribution.buyer:' || :buyer_id, 0));

-- name: count_reserved$
-- How many listings a buyer holds unpaid.
SELECT count(*) FROM redistribution.purchase p
JOIN redistribution.listing l ON l.purchase_id = p.id
WHERE p.buyer_id = :buyer_id AND p.state = 'pending_payment';

-- name: hold
-- Set listings aside for a purchase, if they are for sale; rows are locked in the order of their ids.
WITH locked AS (
    SELECT id FROM redistribution.listing
    WHERE id = ANY(:ids::text[]) AND state = 'listed' AND expires_at > :now
    ORDER BY id FOR UPDATE
)
UPDATE redistribution.listing l SET state = 'reserved', purchase_id = :purchase_id
FROM locked WHERE l.id = locked.id
RETURNING l.*;

-- name: add_purchase!
-- A new purchase, with what it asks for and at which prices.
WITH purchase AS (
    INSERT INTO redistribution.purchase (id, buyer_id, total_fen, state, reserved_until, created_at)
    VALUES (:id, :buyer_id, :total_fen, 'pending_payment', :reserved_until, :now)
)
INSERT INTO redistribution.purchase_item (purchase_id, listing_id, price_fen)
SELECT :id, i.listing_id, i.price_fen FROM unnest(:listing_ids::text[], :prices_fen::bigint[])
    AS i(listing_id, price_fen);

-- name: lock_purchases
-- Purchases by id, locked in the order of their ids.
SELECT * FROM redistribution.purchase WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE;

-- name: lock_reserved
-- The listings that purchases hold, locked in the order of their ids.
SELECT * FROM redistribution.listing
WHERE purchase_id = ANY(:purchase_ids::text[]) AND state = 'reserved' ORDER BY id FOR UPDATE;

-- name: lock_items
-- The listings that a purchase asked for, wherever they are now, with the price agreed then.
SELECT l.*, i.price_fen AS agreed_fen
FROM redistribution.purchase_item i JOIN redistribution.listing l ON l.id = i.listing_id
WHERE i.purchase_id = :purchase_id
ORDER BY l.id FOR UPDATE OF l;

-- name: hold_again!
-- A lapsed purchase gets back what nobody else took, at the price agreed then.
UPDATE redistribution.listing l SET state = 'reserved', purchase_id = i.purchase_id, price_fen = i.price_fen
FROM redistribution.purchase_item i
WHERE i.purchase_id = :purchase_id AND l.id = i.listing_id;

-- name: let_go!
-- Listings are for sale again.
UPDATE redistribution.listing SET state = 'listed', purchase_id = NULL WHERE id = ANY(:ids::text[]);

-- name: mark_paid!
-- Purchases are paid, and their listings sold.
WITH paid AS (
    UPDATE redistribution.purchase SET state = 'paid', reason = NULL, received_fen = total_fen, paid_at = :now
    WHERE id = ANY(:ids::text[])
)
UPDATE redistribution.listing SET state = 'sold' WHERE purchase_id = ANY(:ids::text[]) AND state = 'reserved';

-- name: mark_closed!
-- Purchases end without a sale; a reason known already stays.
UPDATE redistribution.purchase SET state = 'closed', reason = coalesce(reason, 'lapsed')
WHERE id = ANY(:ids::text[]);

-- name: mark_refund_due!
-- Money came for purchases that will not be.
UPDATE redistribution.purchase p
SET state = 'refund_due', reason = g.reason, received_fen = g.received_fen, paid_at = :now
FROM unnest(:ids::text[], :received_fen::bigint[], :reasons::text[]) AS g(id, received_fen, reason)
WHERE p.id = g.id;

-- name: want_closed
-- Ask for these purchases to be closed at the institution, unless that was asked before.
UPDATE redistribution.purchase SET closing_at = :now, reason = :reason
WHERE id = ANY(:ids::text[]) AND state = 'pending_payment' AND closing_at IS NULL
RETURNING *;

-- name: lock_lapsed
-- Purchases whose time to pay is over; those that a worker is closing are passed over.
SELECT * FROM redistribution.purchase
WHERE state = 'pending_payment' AND reserved_until <= :now AND closing_at IS NULL
ORDER BY reserved_until LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: unanswered
-- Purchases whose payment was opened a while ago and of which nothing was heard.
SELECT * FROM redistribution.purchase
WHERE state = 'pending_payment' AND payment_no IS NOT NULL AND created_at <= :opened_before AND closing_at IS NULL
ORDER BY reserved_until LIMIT :limit;

-- name: record_payments!
-- The institution has opened payments for these purchases.
UPDATE redistribution.purchase p SET payment_no = g.payment_no
FROM unnest(:ids::text[], :payment_nos::text[]) AS g(id, payment_no)
WHERE p.id = g.id;

-- name: find_purchases
-- Purchases by id.
SELECT * FROM redistribution.purchase WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: list_purchases
-- The purchases of a buyer (or of all), newest first, after a cursor.
SELECT * FROM redistribution.purchase
WHERE (:buyer_id::text IS NULL OR buyer_id = :buyer_id) AND (:state::text IS NULL OR state = :state)
  AND (:before::text IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;

-- name: items_of
-- What purchases asked for, at which price, and where each listing stands for them now.
SELECT i.purchase_id, i.listing_id, l.voucher_id, l.product_id, l.face_fen, l.value_fen, i.price_fen,
       l.expires_at, l.guarantee_until,
       CASE WHEN l.purchase_id = i.purchase_id THEN l.state END AS state
FROM redistribution.purchase_item i JOIN redistribution.listing l ON l.id = i.listing_id
WHERE i.purchase_id = ANY(:purchase_ids::text[])
ORDER BY i.purchase_id, i.listing_id;

-- name: lock_sold
-- The listings that a purchase bought, locked in the order of their ids.
SELECT * FROM redistribution.listing
WHERE purchase_id = :purchase_id AND (:ids::text[] IS NULL OR id = ANY(:ids))
ORDER BY id FOR UPDATE;

-- name: mark_revealed!
-- Codes were seen for the first time, and the guarantee runs.
UPDATE redistribution.listing SET state = 'revealed', guarantee_until = :until WHERE id = ANY(:ids::text[]);

-- name: end_guarantees$
-- Guarantees that ran out without a complaint; after some more time the sale is closed.
WITH due AS (
    SELECT id FROM redistribution.listing
    WHERE (state = 'revealed' AND guarantee_until <= :now)
       OR (state IN ('guaranteed', 'upheld') AND guarantee_until <= :over_before)
    ORDER BY guarantee_until LIMIT :limit FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE redistribution.listing l SET state = CASE WHEN l.state = 'revealed' THEN 'guaranteed' ELSE 'closed' END
    FROM due WHERE l.id = due.id
    RETURNING 1
)
SELECT count(*) FROM moved;

-- name: open_disputes!
-- Complaints about listings; a listing never revealed has its guarantee end here.
WITH opened AS (
    INSERT INTO redistribution.dispute (listing_id, reason, froze, opened_by, opened_at)
    SELECT g.listing_id, :reason, g.froze, :actor_id, :now
    FROM unnest(:ids::text[], :froze::boolean[]) AS g(listing_id, froze)
)
UPDATE redistribution.listing SET state = 'disputed', guarantee_until = coalesce(guarantee_until, :now)
WHERE id = ANY(:ids::text[]);

-- name: disputed_before
-- Which of these listings were complained about already.
SELECT listing_id FROM redistribution.dispute WHERE listing_id = ANY(:ids::text[]);

-- name: list_disputes
-- Complaints that wait for a decision, newest listing first, after a cursor.
SELECT d.listing_id, l.purchase_id, l.price_fen, d.reason, d.opened_by, d.opened_at
FROM redistribution.dispute d JOIN redistribution.listing l ON l.id = d.listing_id
WHERE d.decision IS NULL AND (:before::text IS NULL OR d.listing_id < :before)
ORDER BY d.listing_id DESC LIMIT :limit;

-- name: decide_dispute^
-- What came of an open dispute.
WITH decided AS (
    UPDATE redistribution.dispute SET decision = :decision, note = :note, decided_by = :actor_id, decided_at = :now
    WHERE listing_id = :listing_id AND decision IS NULL
    RETURNING listing_id, froze
)
UPDATE redistribution.listing l SET state = :decision FROM decided d WHERE l.id = d.listing_id
RETURNING l.*, d.froze;

-- name: add_refunds!
-- Money to give back.
INSERT INTO redistribution.refund (id, purchase_id, listing_id, amount_fen, reason, created_at)
SELECT g.id, g.purchase_id, g.listing_id, g.amount_fen, g.reason, :now
FROM unnest(:ids::text[], :purchase_ids::text[], :listing_ids::text[], :amounts_fen::bigint[], :reasons::text[])
     AS g(id, purchase_id, listing_id, amount_fen, reason);

-- name: find_refunds
-- Refunds by id.
SELECT id, purchase_id, listing_id, amount_fen, reason, done_at FROM redistribution.refund
WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: finish_refunds
-- The institution has taken these refunds; the ones finished now are returned.
UPDATE redistribution.refund SET done_at = :now WHERE id = ANY(:ids::text[]) AND done_at IS NULL
RETURNING id, purchase_id, listing_id, amount_fen, reason, done_at;

-- name: mark_refunded!
-- Purchases of which everything received was given back.
UPDATE redistribution.purchase p SET state = 'refunded'
WHERE p.id = ANY(:ids::text[]) AND p.state IN ('paid', 'refund_due')
  AND p.received_fen = (
      SELECT sum(r.amount_fen) FROM redistribution.refund r WHERE r.purchase_id = p.id AND r.done_at IS NOT NULL);
