-- name: post^
-- Post transfers, all or none: a status for each, and the accounts that lack money.
SELECT statuses, short FROM ledger.post(
    :keys::text[], :srcs::text[], :dsts::text[], :amounts::bigint[], :events::text[], :subjects::text[],
    array_fill(NULL::bigint, ARRAY[cardinality(:keys::text[])]), :event_ats::timestamptz[], :now::timestamptz);

-- name: reverse^
-- Post the opposite of each transfer named; no row when one of them was never posted.
WITH original AS (
    SELECT array_agg(t.key ORDER BY t.key) AS keys, array_agg(t.key || :suffix::text ORDER BY t.key) AS new_keys,
           array_agg(d.code ORDER BY t.key) AS srcs, array_agg(s.code ORDER BY t.key) AS dsts,
           array_agg(t.amount_fen ORDER BY t.key) AS amounts, array_agg(:event::text) AS events,
           array_agg(t.subject ORDER BY t.key) AS subjects, array_agg(t.id ORDER BY t.key) AS ids,
           array_agg(:now::timestamptz) AS event_ats
    FROM ledger.transfer t
    JOIN ledger.account s ON s.id = t.src
    JOIN ledger.account d ON d.id = t.dst
    WHERE t.key = ANY(:keys::text[])
)
SELECT o.new_keys, p.statuses, p.short
FROM original o
CROSS JOIN LATERAL ledger.post(
    o.new_keys, o.srcs, o.dsts, o.amounts, o.events, o.subjects, o.ids, o.event_ats, :now::timestamptz) p
WHERE cardinality(o.keys) = cardinality(:keys::text[]);

-- name: fold$
-- Add the settled legs of deferred accounts to their rows; how many transfers that were.
SELECT ledger.fold(:now::timestamptz);

-- name: fold_lag^
-- How many transfers wait to be folded, for how long, and whether this is the cluster they were folded in.
SELECT transfers, oldest_s, same_cluster FROM ledger.fold_lag(:now::timestamptz);

-- name: find_balances
-- Exact balances of the accounts that exist among these codes, by code.
SELECT id, code, book, kind, floor_fen, balance_fen, held_fen, version
FROM ledger.balance WHERE code = ANY(:codes::text[]) ORDER BY code;

-- name: list_accounts
-- Accounts whose code begins with a text, in the order of their codes, after the cursor. No code has a tilde.
SELECT id, code, book, kind, floor_fen, balance_fen, held_fen, version
FROM ledger.balance
WHERE code >= :prefix::text AND code < :prefix::text || '~' AND code > :cursor::text
ORDER BY code LIMIT :limit;

-- name: find_account_id$
-- The internal id of an account.
SELECT id FROM ledger.account WHERE code = :code;

-- name: list_statement
-- Transfers into and out of one account, newest first, older than the cursor.
SELECT t.id, t.key, s.code AS src, d.code AS dst, t.amount_fen, t.event, t.subject, t.reverses, t.event_at,
       t.created_at
FROM (
    (SELECT * FROM ledger.transfer WHERE src = :account_id AND id < :cursor ORDER BY id DESC LIMIT :limit)
    UNION ALL
    (SELECT * FROM ledger.transfer WHERE dst = :account_id AND id < :cursor ORDER BY id DESC LIMIT :limit)
) t
JOIN ledger.account s ON s.id = t.src
JOIN ledger.account d ON d.id = t.dst
ORDER BY t.id DESC LIMIT :limit;

-- name: find_postings
-- What was posted about one subject, oldest first. Keys start with the subject and a colon; a semicolon follows it.
SELECT t.id, t.key, s.code AS src, d.code AS dst, t.amount_fen, t.event, t.subject, t.reverses, t.event_at,
       t.created_at
FROM ledger.transfer t
JOIN ledger.account s ON s.id = t.src
JOIN ledger.account d ON d.id = t.dst
WHERE t.key >= :subject::text || ':' AND t.key < :subject::text || ';' AND t.subject = :subject
ORDER BY t.id LIMIT :limit;

-- name: sum_chart
-- Every line of the chart with the exact sum of its accounts, in one snapshot.
SELECT c.prefix, c.book, c.meaning_zh, c.meaning_en, count(b.id) AS accounts,
       coalesce(sum(b.balance_fen), 0)::bigint AS balance_fen
FROM ledger.chart c
LEFT JOIN ledger.balance b ON b.prefix = c.prefix
GROUP BY c.prefix ORDER BY c.book, c.prefix;

-- name: sum_client_at
-- The client book as it was recorded before an instant: custody by institution, the rest by line of the chart.
SELECT CASE WHEN b.prefix = 'custody' THEN b.code ELSE b.prefix END AS name,
       (sum(b.balance_fen) - coalesce(sum(since.delta_fen), 0))::bigint AS balance_fen
FROM ledger.balance b
LEFT JOIN (
    SELECT leg.account_id, sum(leg.delta_fen) AS delta_fen
    FROM ledger.transfer t
    CROSS JOIN LATERAL (VALUES (t.src, -t.amount_fen), (t.dst, t.amount_fen)) AS leg(account_id, delta_fen)
    WHERE t.created_at >= :until
    GROUP BY leg.account_id
) since ON since.account_id = b.id
WHERE b.book = 'client'
GROUP BY 1 HAVING sum(b.balance_fen) - coalesce(sum(since.delta_fen), 0) <> 0 ORDER BY 1;
