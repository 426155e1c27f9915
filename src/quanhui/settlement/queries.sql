-- name: add_payouts
-- Add payouts with their first steps, cash that nothing holds with its first transfer. One an order: later ones are left out.
WITH given AS (
    SELECT * FROM unnest(
        :ids::text[], :order_ids::text[], :seller_ids::text[], :payee_ids::text[], :methods::text[],
        :amounts_fen::bigint[], :states::text[], :store_ids::text[], :voucher_ids::text[], :hold_reasons::text[],
        :out_nos::text[])
        AS g(id, order_id, seller_id, payee_id, method, amount_fen, state, store_id, voucher_ids, hold_reason,
             out_no)
), added AS (
    INSERT INTO settlement.payout (id, order_id, seller_id, payee_id, method, amount_fen, state, store_id,
        voucher_ids, attempts, hold_reason, created_at, updated_at)
    SELECT id, order_id, seller_id, payee_id, method, amount_fen, state, store_id,
        string_to_array(voucher_ids, ','), CASE WHEN out_no IS NULL THEN 0 ELSE 1 END, hold_reason, :now, :now
    FROM given ORDER BY order_id
    ON CONFLICT (order_id) DO NOTHING
    RETURNING id
), attempted AS (
    INSERT INTO settlement.attempt (out_no, payout_id, number, state, created_at, updated_at)
    SELECT g.out_no, g.id, 1, 'new', :now, :now FROM given g JOIN added a ON a.id = g.id
    WHERE g.out_no IS NOT NULL
), told AS (
    INSERT INTO settlement.step (payout_id, at, state, number, reason)
    SELECT g.id, :now, s.state, CASE WHEN s.state = 'submitted' THEN 1 END,
           CASE WHEN s.state = 'held' THEN g.hold_reason END
    FROM given g JOIN added a ON a.id = g.id CROSS JOIN LATERAL (VALUES ('created'), (g.state)) AS s(state)
)
SELECT id FROM added;

-- name: lock_payouts
-- Payouts by id, locked in the order of their ids.
SELECT * FROM settlement.payout WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE;

-- name: lock_retries
-- Failed payouts whose next transfer is due, locked; those another worker has are passed over.
SELECT * FROM settlement.payout
WHERE retry_at <= :now AND state = 'failed' AND flag IS NULL
ORDER BY retry_at LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: approve_payouts!
-- Held payouts are approved, perhaps with another account to pay to.
WITH approved AS (
    UPDATE settlement.payout p
    SET state = 'approved', approved_by = :actor_id, payee_id = g.payee_id, updated_at = :now
    FROM unnest(:ids::text[], :payee_ids::text[]) AS g(id, payee_id)
    WHERE p.id = g.id
    RETURNING p.id
)
INSERT INTO settlement.step (payout_id, at, state, actor_id) SELECT id, :now, 'approved', :actor_id FROM approved;

-- name: move_on!
-- Payouts go out, or on to their next state: with a new transfer where there is a number for one.
WITH given AS (
    SELECT * FROM unnest(:ids::text[], :states::text[], :payee_ids::text[], :store_ids::text[], :numbers::int[],
                         :out_nos::text[])
        AS g(id, state, payee_id, store_id, number, out_no)
), moved AS (
    UPDATE settlement.payout p
    SET state = g.state, payee_id = g.payee_id, store_id = g.store_id, attempts = g.number, retry_at = NULL,
        failure = NULL, updated_at = :now
    FROM given g WHERE p.id = g.id
    RETURNING p.id
), attempted AS (
    INSERT INTO settlement.attempt (out_no, payout_id, number, state, created_at, updated_at)
    SELECT g.out_no, g.id, g.number, 'new', :now, :now FROM given g WHERE g.out_no IS NOT NULL
)
INSERT INTO settlement.step (payout_id, at, state, number, actor_id)
SELECT g.id, :now, g.state, CASE WHEN g.out_no IS NOT NULL THEN g.number END, :actor_id
FROM given g JOIN moved m ON m.id = g.id;

-- name: leave_to_people!
-- Failed payouts are no longer retried by themselves.
UPDATE settlement.payout SET retry_at = NULL, updated_at = :now WHERE id = ANY(:ids::text[]);

-- name: begin_calls
-- Mark new transfers as being called, and say what to call with; flagged payouts and those begun before are left out, and all while payouts are stopped.
WITH locked AS (
    SELECT t.out_no, p.id, p.seller_id, p.payee_id, p.amount_fen
    FROM settlement.attempt t JOIN settlement.payout p ON p.id = t.payout_id
    WHERE t.out_no = ANY(:out_nos::text[]) AND t.state = 'new' AND p.flag IS NULL
      AND NOT EXISTS (SELECT FROM settlement.stop WHERE lifted_at IS NULL)
    ORDER BY p.id, t.number FOR UPDATE
)
UPDATE settlement.attempt t
SET state = 'calling', sends = t.sends + 1, queries = 0, next_query_at = :query_at, updated_at = :now
FROM locked l WHERE t.out_no = l.out_no
RETURNING l.out_no, l.seller_id, l.payee_id, l.amount_fen;

-- name: lock_attempts
-- Transfers with their payouts, locked in one order.
SELECT p.*, t.out_no, t.number, t.state AS attempt_state, t.reason AS attempt_reason, t.institution_no, t.sends,
       t.closing, t.next_query_at
FROM settlement.attempt t JOIN settlement.payout p ON p.id = t.payout_id
WHERE t.out_no = ANY(:out_nos::text[])
ORDER BY p.id, t.number FOR UPDATE;

-- name: store_heard!
-- Write back what reports changed, with a step for each payout that came to another state.
WITH attempts AS (
    UPDATE settlement.attempt t
    SET state = h.state, reason = h.reason, institution_no = h.institution_no, next_query_at = h.next_query_at,
        queries = 0, updated_at = :now
    FROM unnest(:out_nos::text[], :attempt_states::text[], :reasons::text[], :institution_nos::text[],
                :next_query_ats::timestamptz[]) AS h(out_no, state, reason, institution_no, next_query_at)
    WHERE t.out_no = h.out_no
), payouts AS (
    UPDATE settlement.payout p
    SET state = h.state, failure = h.failure, flag = h.flag, retry_at = h.retry_at, updated_at = :now
    FROM unnest(:ids::text[], :states::text[], :failures::text[], :flags::text[], :retry_ats::timestamptz[])
         AS h(id, state, failure, flag, retry_at)
    WHERE p.id = h.id
)
INSERT INTO settlement.step (payout_id, at, state, number, reason)
SELECT s.payout_id, :now, s.state, s.number, s.reason
FROM unnest(:step_ids::text[], :step_states::text[], :step_numbers::int[], :step_reasons::text[])
     WITH ORDINALITY AS s(payout_id, state, number, reason, position)
ORDER BY s.position;

-- name: clear_flags
-- A person has looked: flags go, with a step that says who and why; the numbers never sent or never taken in are returned.
WITH cleared AS (
    UPDATE settlement.payout SET flag = NULL, updated_at = :now
    WHERE id = ANY(:ids::text[])
    RETURNING id, state, attempts
), told AS (
    INSERT INTO settlement.step (payout_id, at, state, reason, actor_id)
    SELECT id, :now, state, :note, :actor_id FROM cleared
)
UPDATE settlement.attempt t SET sends = 0
FROM cleared c WHERE t.payout_id = c.id AND t.number = c.attempts AND t.state = 'new'
RETURNING t.out_no;

-- name: take_queries
-- Transfers whose outcome is to be asked for now; the next time is twice as far off, up to an hour. Those the payee left waiting are to be closed.
WITH due AS (
    SELECT out_no FROM settlement.attempt WHERE next_query_at <= :now
    ORDER BY next_query_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE settlement.attempt t
SET queries = t.queries + 1,
    next_query_at = :now::timestamptz + least(interval '4 seconds' * 2 ^ least(t.queries, 12), interval '1 hour'),
    closing = t.closing OR (t.state = 'awaiting_payee' AND t.updated_at <= :waiting_since)
FROM due d WHERE t.out_no = d.out_no
RETURNING t.out_no, t.closing;

-- name: handling_of
-- What reasons for failure call for.
SELECT code, handling FROM settlement.reason WHERE code = ANY(:codes::text[]) AND handling IS NOT NULL;

-- name: find_words
-- Reasons in plain words.
SELECT code, zh, en FROM settlement.reason WHERE code = ANY(:codes::text[]);

-- name: find_payouts
-- Payouts by id.
SELECT * FROM settlement.payout WHERE id = ANY(:ids::text[]);

-- name: list_payouts
-- Payouts that match every filter given, newest first, after a cursor.
SELECT * FROM settlement.payout
WHERE (:seller_id::text IS NULL OR seller_id = :seller_id) AND (:store_id::text IS NULL OR store_id = :store_id)
  AND (:order_id::text IS NULL OR order_id = :order_id) AND (:state::text IS NULL OR state = :state)
  AND (:cursor::text IS NULL OR id < :cursor)
ORDER BY id DESC LIMIT :limit;

-- name: list_steps
-- What happened to a payout, oldest first.
SELECT at, state, number, reason FROM settlement.step WHERE payout_id = :payout_id ORDER BY id LIMIT :limit;

-- name: accept_notifications
-- Take notifications in; those that came before are left out of the answer.
INSERT INTO settlement.callback_inbox (notification_id, received_at)
SELECT DISTINCT n.id, :now::timestamptz FROM unnest(:ids::text[]) AS n(id) ORDER BY 1
ON CONFLICT DO NOTHING
RETURNING notification_id;

-- name: forget_notifications$
-- Drop notifications too old to be believed if they came again.
WITH gone AS (DELETE FROM settlement.callback_inbox WHERE received_at < :before RETURNING 1)
SELECT count(*) FROM gone;
