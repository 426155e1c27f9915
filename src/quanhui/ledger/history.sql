-- name: settled_before$
-- Balances at instants up to this one are final.
SELECT ledger.settled_before(:now::timestamptz);

-- name: sum_chart_at
-- Every line of the chart with what its accounts held at an instant, in one snapshot.
SELECT c.prefix, c.book, c.meaning_zh, c.meaning_en, count(b.id) AS accounts,
       coalesce(sum(b.balance_fen), 0)::bigint AS balance_fen
FROM ledger.chart c
LEFT JOIN ledger.balance_at(:instant::timestamptz) b ON b.prefix = c.prefix
GROUP BY c.prefix ORDER BY c.book, c.prefix;

-- name: sum_statement^
-- What an account held at both ends of a period and what moved in between, in one snapshot.
SELECT (b.balance_fen - coalesce(m.later, 0) - coalesce(m.credits, 0) + coalesce(m.debits, 0))::bigint AS opening_fen,
       coalesce(m.credits, 0)::bigint AS credits_fen, coalesce(m.debits, 0)::bigint AS debits_fen,
       (b.balance_fen - coalesce(m.later, 0))::bigint AS closing_fen, coalesce(m.transfers, 0) AS transfers
FROM ledger.balance b
CROSS JOIN LATERAL (
    SELECT sum(t.amount_fen) FILTER (WHERE t.dst = b.id AND t.created_at < :until::timestamptz) AS credits,
           sum(t.amount_fen) FILTER (WHERE t.src = b.id AND t.created_at < :until::timestamptz) AS debits,
           count(*) FILTER (WHERE t.created_at < :until::timestamptz) AS transfers,
           sum(CASE WHEN t.dst = b.id THEN t.amount_fen ELSE -t.amount_fen END)
               FILTER (WHERE t.created_at >= :until::timestamptz) AS later
    FROM ledger.transfer t
    WHERE (t.src = b.id OR t.dst = b.id) AND t.created_at >= :since::timestamptz
) m
WHERE b.code = :code;

-- name: list_lines
-- Transfers of one account over a period, oldest first, after the cursor.
SELECT t.id, t.created_at, t.event_at, t.event, t.subject, other.code AS counterpart,
       CASE WHEN t.dst = a.id THEN t.amount_fen ELSE -t.amount_fen END AS delta_fen
FROM ledger.account a
CROSS JOIN LATERAL (
    (SELECT * FROM ledger.transfer WHERE src = a.id AND id > :cursor
        AND created_at >= :since::timestamptz AND created_at < :until::timestamptz ORDER BY id LIMIT :limit)
    UNION ALL
    (SELECT * FROM ledger.transfer WHERE dst = a.id AND id > :cursor
        AND created_at >= :since::timestamptz AND created_at < :until::timestamptz ORDER BY id LIMIT :limit)
) t
JOIN ledger.account other ON other.id = CASE WHEN t.dst = a.id THEN t.src ELSE t.dst END
WHERE a.code = :code ORDER BY t.id LIMIT :limit;

-- name: list_journal
-- Transfers that pass the filters, newest first, older than the cursor.
SELECT t.id, t.key, s.code AS src, d.code AS dst, t.amount_fen, t.event, t.subject, t.reverses, t.event_at,
       t.created_at
FROM ledger.transfer t
JOIN ledger.account s ON s.id = t.src
JOIN ledger.account d ON d.id = t.dst
WHERE t.id < :cursor
  AND (:event::text IS NULL OR t.event = :event)
  AND (:subject::text IS NULL
       OR (t.key >= :subject || ':' AND t.key < :subject || ';' AND t.subject = :subject))
  AND (:account::text IS NULL OR t.src = (SELECT id FROM ledger.account WHERE code = :account)
       OR t.dst = (SELECT id FROM ledger.account WHERE code = :account))
  AND (:since::timestamptz IS NULL OR t.created_at >= :since)
  AND (:until::timestamptz IS NULL OR t.created_at < :until)
  AND (:min_fen::bigint IS NULL OR t.amount_fen >= :min_fen)
  AND (:max_fen::bigint IS NULL OR t.amount_fen <= :max_fen)
ORDER BY t.id DESC LIMIT :limit;
