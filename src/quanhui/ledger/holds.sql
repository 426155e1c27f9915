-- name: hold^
-- Set money aside, all or none: a status for each, and the accounts that lack money.
SELECT statuses, short FROM ledger.hold(
    :keys::text[], :codes::text[], :amounts::bigint[], :subjects::text[], :now::timestamptz);

-- name: release$
-- Give back what is left of holds, all or none: a status for each.
SELECT ledger.release(:keys::text[], :now::timestamptz);

-- name: capture$
-- Pay out of holds, all or none: a status for each.
SELECT ledger.capture(
    :hold_keys::text[], :keys::text[], :dsts::text[], :amounts::bigint[], :events::text[], :subjects::text[],
    :event_ats::timestamptz[], :now::timestamptz);

-- name: find_held
-- What is held on an account, oldest first.
SELECT h.key, a.code AS account, h.subject, h.amount_fen, h.captured_fen, h.released_fen, h.state, h.created_at
FROM ledger.hold h JOIN ledger.account a ON a.id = h.account
WHERE a.code = :code AND h.state = 'held' ORDER BY h.id LIMIT :limit;

-- name: find_astray
-- Accounts whose held money is not the sum of what is left of their holds.
SELECT a.code FROM ledger.account a
LEFT JOIN (SELECT h.account, sum(h.amount_fen - h.captured_fen) AS left_fen
           FROM ledger.hold h WHERE h.state = 'held' GROUP BY h.account) h ON h.account = a.id
WHERE a.held_fen <> coalesce(h.left_fen, 0) ORDER BY a.code LIMIT 100;
