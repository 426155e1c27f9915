-- name: add_payouts
-- Add payouts with their first steps, cash that nothing holds with its first transfer. One an order: later ones are left out.
WITH given AS (
    SELECT * FROM unnest(
        :ids::text[], :order_ids::text[], :seller_ids::text[], :payee_ids::text[], :methods::text[],
        :amounts_fen::bigint[], :states::text[], :store_ids::text[], :voucher_ids::text[], :hold_reasons::text[],
        :out_nos::text[], :retry_ats::timestamptz[])
        AS g(id, order_id, seller_id, payee_id, method, amount_fen, state, store_id, voucher_ids, hold_reason,
             out_no, retry_at)
), added AS (
    INSERT INTO settlement.payout (id, order_id, seller_id, payee_id, method, amount_fen, state, store_id,
        voucher_ids, attempts, hold_reason, retry_at, created_at, updated_at)
    SELECT id, order_id, seller_id, payee_id, method, amount_fen, state, store_id,
        string_to_array(voucher_ids, ','), CASE WHEN out_no IS NULL THEN 0 ELSE 1 END, hold_reason, retry_at, :now, :now
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

-- name: lock_capped
-- Payouts held for the limit of a day that is over, locked; those another worker has are passed over.
SELECT * FROM settlement.payout
WHERE retry_at <= :now AND state = 'held' AND flag IS NULL
ORDER BY retry_at, id LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: approve_payouts!
-- Held payouts are approved, perhaps with another account to pay to.
WITH approved AS (
    UPDATE settlement.payout p
    SET state = 'approved', approved_by = :actor_id, payee_id = g.payee_id, changed_by = g.changed_by,
        approvals = string_to_array(g.approvals, ','), retry_at = NULL, updated_at = :now
    FROM unnest(:ids::text[], :payee_ids::text[], :changed_bys::text[], :approvals::text[])
         AS g(id, payee_id, changed_by, approvals)
    WHERE p.id = g.id
    RETURNING p.id
)
INSERT INTO settlement.step (payout_id, at, state, actor_id) SELECT id, :now, 'approved', :actor_id FROM approved;

-- name: hold_payouts!
-- Payouts wait for (another) person, or for another day; the timeline says who brought it about.
WITH held AS (
    UPDATE settlement.payout p
    SET state = 'held', hold_reason = g.reason, payee_id = g.payee_id, changed_by = g.changed_by,
        approvals = string_to_array(g.approvals, ','), retry_at = g.retry_at, cancelled_by = NULL, updated_at = :now
    FROM unnest(:ids::text[], :reasons::text[], :payee_ids::text[], :changed_bys::text[], :approvals::text[],
                :retry_ats::timestamptz[]) AS g(id, reason, payee_id, changed_by, approvals, retry_at)
    WHERE p.id = g.id
    RETURNING p.id, p.hold_reason
)
INSERT INTO settlement.step (payout_id, at, state, reason, actor_id)
SELECT id, :now, 'held', hold_reason, :actor_id FROM held;

-- name: find_limits^
-- The limits of payouts, and which of these orders have one already.
SELECT l.*, ARRAY(SELECT order_id FROM settlement.payout WHERE order_id = ANY(:order_ids::text[])) AS order_ids
FROM settlement.limits l;

-- name: lock_totals
-- Counters of a day, locked in one order until the end of the transaction, and how they stand.
INSERT INTO settlement.day_total AS d (day, scope, amount_fen)
SELECT :day::date, s.scope, 0 FROM unnest(:scopes::text[]) AS s(scope) ORDER BY s.scope
ON CONFLICT (day, scope) DO UPDATE SET amount_fen = d.amount_fen
RETURNING scope, amount_fen;

-- name: move_on!
-- Payouts go out, or on to their next state: with a new transfer where there is a number for one.
WITH given AS (
    SELECT * FROM unnest(:ids::text[], :states::text[], :payee_ids::text[], :store_ids::text[], :numbers::int[],
                         :out_nos::text[])
        AS g(id, state, payee_id, store_id, number, out_no)
), moved AS (
    UPDATE settlement.payout p
    SET state = g.state, payee_id = g.payee_id, store_id = g.store_id, attempts = g.number, retry_at = NULL,
        failure = NULL, cancelled_by = NULL, updated_at = :now
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

-- name: lock_due
-- New transfers to be sent, locked, and who refused their forerunners; flagged payouts and those begun before are left out, and all while payouts are stopped.
SELECT t.out_no, t.channel, p.id, p.seller_id, p.payee_id, p.amount_fen,
       ARRAY(SELECT DISTINCT o.channel FROM settlement.attempt o
             WHERE o.payout_id = p.id AND o.state = 'failed' AND o.channel IS NOT NULL) AS refused_by
FROM settlement.attempt t JOIN settlement.payout p ON p.id = t.payout_id
WHERE t.out_no = ANY(:out_nos::text[]) AND t.state = 'new' AND p.flag IS NULL
  AND NOT EXISTS (SELECT FROM settlement.stop WHERE lifted_at IS NULL)
ORDER BY p.id, t.number FOR UPDATE OF t, p;

-- name: begin_calls!
-- Mark transfers as being called, each through its channel; what waited for one waits no longer.
WITH given AS (
    SELECT * FROM unnest(:out_nos::text[], :channels::text[], :costs_fen::bigint[]) AS g(out_no, channel, cost_fen)
), begun AS (
    UPDATE settlement.attempt t
    SET state = 'calling', channel = g.channel, cost_fen = g.cost_fen, sends = t.sends + 1, queries = 0,
        next_query_at = :query_at, updated_at = :now
    FROM given g WHERE t.out_no = g.out_no
    RETURNING t.payout_id
)
UPDATE settlement.payout p SET waiting = NULL, send_at = NULL
FROM begun b WHERE p.id = b.payout_id AND p.waiting IS NOT NULL;

-- name: keep_waiting!
-- No channel takes these: they wait, and the timeline says so once.
WITH given AS (
    SELECT * FROM unnest(:ids::text[], :reasons::text[], :send_ats::timestamptz[]) AS g(id, reason, send_at)
), before AS (
    SELECT p.id, p.waiting, p.state, p.attempts FROM settlement.payout p JOIN given g ON g.id = p.id
), kept AS (
    UPDATE settlement.payout p SET waiting = g.reason, send_at = g.send_at, updated_at = :now
    FROM given g WHERE p.id = g.id
)
INSERT INTO settlement.step (payout_id, at, state, number, reason)
SELECT b.id, :now, b.state, b.attempts, g.reason FROM before b JOIN given g ON g.id = b.id
WHERE b.waiting IS DISTINCT FROM g.reason;

-- name: wake_waiting
-- Transfers whose time to try the channels again has come; those another worker has are passed over.
WITH due AS (
    SELECT id FROM settlement.payout WHERE send_at <= :now AND flag IS NULL
    ORDER BY send_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE settlement.payout p SET send_at = :again_at FROM due d WHERE p.id = d.id
RETURNING p.id, p.attempts;

-- name: hurry_waiting!
-- A channel takes transfers again: what waited for one need not wait longer.
UPDATE settlement.payout SET send_at = :now WHERE waiting = 'channels_closed' AND send_at > :now;

-- name: lock_channels
-- Channels by name, locked so that nobody else chooses meanwhile.
SELECT * FROM settlement.channel WHERE name = ANY(:names::text[]) ORDER BY name FOR NO KEY UPDATE;

-- name: day_totals
-- What was told to go out on a day, by scope. Read it after the lock that guards it.
SELECT scope, amount_fen FROM settlement.day_total WHERE day = :day AND scope = ANY(:scopes::text[]);

-- name: list_channels
-- All channels with what each was told to pay on a day and how its calls fared since an instant.
SELECT c.*, coalesce(d.amount_fen, 0) AS used_fen, coalesce(m.answered, 0) AS answered, coalesce(m.silent, 0) AS silent
FROM settlement.channel c
LEFT JOIN settlement.day_total d ON d.day = :day AND d.scope = 'channel:' || c.name
LEFT JOIN (SELECT channel, sum(answered) AS answered, sum(silent) AS silent FROM settlement.channel_minute
           WHERE at >= :since GROUP BY channel) m ON m.channel = c.name
ORDER BY c.priority, c.name;

-- name: store_channels!
-- How channels fare, and who stopped them.
UPDATE settlement.channel c
SET silences = g.silences, trips = g.trips, rests_until = g.rests_until, stopped_by = g.stopped_by,
    stopped_at = g.stopped_at, stop_note = g.stop_note
FROM unnest(:names::text[], :silences::int[], :trips::int[], :rests_untils::timestamptz[], :stopped_bys::text[],
            :stopped_ats::timestamptz[], :stop_notes::text[])
     AS g(name, silences, trips, rests_until, stopped_by, stopped_at, stop_note)
WHERE c.name = g.name;

-- name: count_answers!
-- Calls of a minute that a channel answered, and those it left without an answer.
INSERT INTO settlement.channel_minute AS m (channel, at, answered, silent)
VALUES (:channel, date_trunc('minute', :now::timestamptz), :answered, :silent)
ON CONFLICT (channel, at) DO UPDATE SET answered = m.answered + excluded.answered, silent = m.silent + excluded.silent;

-- name: add_totals!
-- Count what goes out on a day, by scope.
INSERT INTO settlement.day_total AS d (day, scope, amount_fen)
SELECT :day::date, scope, sum(amount_fen) FROM unnest(:scopes::text[], :amounts_fen::bigint[]) AS g(scope, amount_fen)
GROUP BY scope ORDER BY scope
ON CONFLICT (day, scope) DO UPDATE SET amount_fen = d.amount_fen + excluded.amount_fen;

-- name: lock_attempts
-- Transfers with their payouts, locked in one order.
SELECT p.*, t.out_no, t.number, t.state AS attempt_state, t.reason AS attempt_reason, t.institution_no, t.sends,
       t.closing, t.next_query_at, t.channel, t.cost_fen
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
    SET state = h.state, failure = h.failure, flag = h.flag, retry_at = h.retry_at, updated_at = :now,
        waiting = CASE WHEN h.state = 'submitted' THEN p.waiting END,
        send_at = CASE WHEN h.state = 'submitted' THEN p.send_at END
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

-- name: ask_to_cancel!
-- Somebody wants these transfers closed: the channel is asked to next, and only its answer cancels. The note is for staff.
WITH closing AS (
    UPDATE settlement.attempt
    SET closing = true, next_query_at = CASE WHEN channel IS NOT NULL THEN :now::timestamptz END
    WHERE out_no = ANY(:out_nos::text[])
    RETURNING payout_id
), asked AS (
    UPDATE settlement.payout p SET cancelled_by = :actor_id, waiting = NULL, send_at = NULL, updated_at = :now
    FROM closing c WHERE p.id = c.payout_id
    RETURNING p.id, p.state, p.attempts
)
INSERT INTO settlement.step (payout_id, at, state, number, reason, actor_id)
SELECT id, :now, state, attempts, :note, :actor_id FROM asked;

-- name: take_queries
-- Transfers whose outcome is to be asked for now; the next time is twice as far off, up to an hour. Those the payee left waiting are to be closed.
WITH due AS (
    SELECT out_no FROM settlement.attempt WHERE next_query_at <= :now AND channel = ANY(:channels::text[])
    ORDER BY next_query_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE settlement.attempt t
SET queries = t.queries + 1,
    next_query_at = :now::timestamptz + least(interval '4 seconds' * 2 ^ least(t.queries, 12), interval '1 hour'),
    closing = t.closing OR (t.state = 'awaiting_payee' AND t.updated_at <= :waiting_since)
FROM due d WHERE t.out_no = d.out_no
RETURNING t.out_no, t.closing, t.channel;

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
-- Drop notifications too old to be believed if they came again, and how channels fared long ago.
WITH gone AS (
    DELETE FROM settlement.callback_inbox WHERE received_at < :before RETURNING 1
), minutes AS (
    DELETE FROM settlement.channel_minute WHERE at < :minutes_before
), totals AS (
    DELETE FROM settlement.day_total WHERE day < :totals_before
)
SELECT count(*) FROM gone;
