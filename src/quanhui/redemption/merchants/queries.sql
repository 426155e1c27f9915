-- name: next_day$
-- The Shanghai day whose statements come next: after the last run, or the first on which anything happened.
SELECT coalesce(
    (SELECT max(day) + 1 FROM redemption.statement_run),
    (SELECT (least((SELECT min(captured_at) FROM redemption.redemption WHERE captured_at IS NOT NULL),
                   (SELECT min(happened_at) FROM redemption.merchant_claim)) AT TIME ZONE 'Asia/Shanghai')::date));

-- name: begin_run^
-- Claim a day: no row if it has been run, also when another process is just doing so.
INSERT INTO redemption.statement_run (day, statements, lines, finished_at) VALUES (:day, 0, 0, :now)
ON CONFLICT DO NOTHING RETURNING day;

-- name: gather_lines
-- Freeze what happened before the day was over and is on no statement yet; the merchants it concerns, with sums.
WITH happened AS (
    SELECT r.merchant_id, 'redemption' AS kind, r.id AS subject, r.id AS redemption_id, r.store_id,
           r.captured_fen AS amount_fen, r.captured_at AS happened_at, r.captured_at AS rated_at,
           NULL::bigint AS left_fen
    FROM redemption.redemption r
    WHERE r.captured_at >= :since AND r.captured_at < :until
    UNION ALL
    SELECT r.merchant_id, 'reversal', v.id, r.id, r.store_id, -v.amount_fen, v.done_at, r.captured_at,
           r.captured_fen - (SELECT coalesce(sum(e.amount_fen), 0)::bigint FROM redemption.reversal e
                             WHERE e.redemption_id = r.id AND e.state = 'done' AND (e.done_at, e.id) < (v.done_at, v.id))
    FROM redemption.reversal v JOIN redemption.redemption r ON r.id = v.redemption_id
    WHERE v.state = 'done' AND v.done_at >= :since AND v.done_at < :until
    UNION ALL
    SELECT c.merchant_id, c.kind, c.subject, NULL, NULL, c.amount_fen, c.happened_at, NULL, NULL
    FROM redemption.merchant_claim c
    WHERE c.happened_at >= :since AND c.happened_at < :until
), fresh AS (
    SELECT h.*, (h.rated_at AT TIME ZONE 'Asia/Shanghai')::date AS rated_on FROM happened h
    WHERE NOT EXISTS (SELECT FROM redemption.statement_line l WHERE l.subject = h.subject)
), rates AS (
    SELECT d.merchant_id, d.rated_on, redemption.fee_bps_on(d.merchant_id, d.rated_on) AS fee_bps
    FROM (SELECT DISTINCT merchant_id, rated_on FROM fresh WHERE rated_on IS NOT NULL) d
), added AS (
    INSERT INTO redemption.statement_line
        (merchant_id, day, kind, subject, redemption_id, store_id, amount_fen, fee_bps, fee_fen, happened_at)
    SELECT f.merchant_id, :day, f.kind, f.subject, f.redemption_id, f.store_id, f.amount_fen,
           coalesce(r.fee_bps, 0),
           CASE f.kind WHEN 'redemption' THEN redemption.fee_fen(f.amount_fen, r.fee_bps)
                       WHEN 'reversal' THEN redemption.fee_fen(f.left_fen + f.amount_fen, r.fee_bps)
                                            - redemption.fee_fen(f.left_fen, r.fee_bps)
                       ELSE 0 END,
           f.happened_at
    FROM fresh f LEFT JOIN rates r ON r.merchant_id = f.merchant_id AND r.rated_on = f.rated_on
    ORDER BY f.merchant_id, f.happened_at, f.subject
    RETURNING merchant_id, amount_fen, fee_fen
)
SELECT merchant_id, count(*)::int AS lines, sum(amount_fen)::bigint AS gross_fen, sum(fee_fen)::bigint AS fee_fen
FROM added GROUP BY merchant_id ORDER BY merchant_id;

-- name: draw_statements!
-- One statement a merchant, with what earlier ones carried forward.
WITH given AS (
    SELECT * FROM unnest(:ids::text[], :merchant_ids::text[], :lines::int[], :gross_fen::bigint[], :fee_fen::bigint[])
        AS g(id, merchant_id, lines, gross_fen, fee_fen)
), carried AS (
    SELECT s.merchant_id, array_agg(s.id) AS ids, sum(s.gross_fen)::bigint AS gross_fen, sum(s.fee_fen)::bigint AS fee_fen
    FROM redemption.statement s JOIN given g ON g.merchant_id = s.merchant_id
    WHERE s.state = 'carried' AND s.carried_to IS NULL
    GROUP BY s.merchant_id
), drawn AS (
    INSERT INTO redemption.statement (id, merchant_id, day, state, carried_gross_fen, carried_fee_fen, lines,
        lines_gross_fen, lines_fee_fen, drawn_at)
    SELECT g.id, g.merchant_id, :day, 'drawn', coalesce(c.gross_fen, 0), coalesce(c.fee_fen, 0), g.lines,
           g.gross_fen, g.fee_fen, :now
    FROM given g LEFT JOIN carried c ON c.merchant_id = g.merchant_id
    RETURNING id, merchant_id
), forwarded AS (
    UPDATE redemption.statement s SET carried_to = d.id
    FROM carried c JOIN drawn d ON d.merchant_id = c.merchant_id
    WHERE s.id = ANY(c.ids)
)
UPDATE redemption.statement_run SET statements = (SELECT count(*) FROM given),
    lines = (SELECT coalesce(sum(lines), 0) FROM given) WHERE day = :day;

-- name: agree_by_silence$
-- Statements that nobody disputed in time count as confirmed; returns how many.
WITH silent AS (
    SELECT id FROM redemption.statement WHERE state = 'drawn' AND drawn_at <= :drawn_before
    ORDER BY drawn_at LIMIT :limit FOR UPDATE SKIP LOCKED
), agreed AS (
    UPDATE redemption.statement s SET state = 'confirmed', confirmed_at = :now FROM silent WHERE s.id = silent.id
    RETURNING 1
)
SELECT count(*) FROM agreed;

-- name: release
-- What is agreed becomes due, or is carried forward when there is nothing to pay.
WITH agreed AS (
    SELECT id FROM redemption.statement WHERE state IN ('confirmed', 'corrected')
    ORDER BY drawn_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE redemption.statement s
SET state = CASE WHEN s.net_fen > 0 THEN 'due' ELSE 'carried' END,
    due_at = CASE WHEN s.net_fen > 0 THEN :now::timestamptz END
FROM agreed WHERE s.id = agreed.id
RETURNING s.id, s.merchant_id, s.net_fen, s.state;

-- name: lock_statements
-- Statements by id, locked in the order of their ids.
SELECT * FROM redemption.statement WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE;

-- name: find_statements
-- Statements by id.
SELECT * FROM redemption.statement WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: list_statements
-- Statements that match every filter given, newest first, after a cursor.
SELECT * FROM redemption.statement
WHERE (:merchant_id::text IS NULL OR merchant_id = :merchant_id)
  AND (:state::text IS NULL OR state = :state)
  AND (:since::date IS NULL OR day >= :since)
  AND (:until::date IS NULL OR day <= :until)
  AND (:before::text IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;

-- name: list_lines
-- Lines of a statement in the order in which they were frozen, after a cursor.
SELECT id, kind, subject, redemption_id, store_id, amount_fen, fee_bps, fee_fen, happened_at
FROM redemption.statement_line WHERE merchant_id = :merchant_id AND day = :day AND id > :after
ORDER BY id LIMIT :limit;

-- name: find_line^
-- One line of a statement.
SELECT id, kind, subject, redemption_id, store_id, amount_fen, fee_bps, fee_fen, happened_at
FROM redemption.statement_line WHERE merchant_id = :merchant_id AND day = :day AND id = :line_id;

-- name: confirm_statement!
-- The merchant agrees, or everything it disputed was right.
UPDATE redemption.statement SET state = 'confirmed', confirmed_at = :now, confirmed_by = :actor_id WHERE id = :id;

-- name: add_dispute^
-- A line is disputed, and its statement with it; no row when it is disputed already.
WITH added AS (
    INSERT INTO redemption.statement_dispute (id, statement_id, line_id, state, reason, raised_by, raised_at)
    VALUES (:id, :statement_id, :line_id, 'open', :reason, :actor_id, :now)
    ON CONFLICT (line_id) WHERE state <> 'settled' DO NOTHING
    RETURNING *
), moved AS (
    UPDATE redemption.statement s SET state = 'disputed' FROM added a WHERE s.id = a.statement_id AND s.state = 'drawn'
)
SELECT * FROM added;

-- name: live_dispute_of$
-- The dispute of a line that is not settled.
SELECT id FROM redemption.statement_dispute WHERE line_id = :line_id AND state <> 'settled';

-- name: lock_dispute^
-- A dispute, locked. Its statement is locked before it.
SELECT * FROM redemption.statement_dispute WHERE id = :id FOR UPDATE;

-- name: statement_of_dispute$
-- The statement that a dispute belongs to.
SELECT statement_id FROM redemption.statement_dispute WHERE id = :id;

-- name: list_disputes
-- The disputes of a statement, oldest first.
SELECT * FROM redemption.statement_dispute WHERE statement_id = :statement_id ORDER BY id LIMIT :limit;

-- name: answer_dispute^
-- Finance answers a dispute; a second person has yet to agree.
UPDATE redemption.statement_dispute
SET state = 'answered', correction_fen = :correction_fen, answer = :answer, answered_by = :actor_id, answered_at = :now
WHERE id = :id RETURNING *;

-- name: reopen_dispute^
-- The second person does not agree with the answer, which is asked for anew.
UPDATE redemption.statement_dispute
SET state = 'open', correction_fen = NULL, answer = NULL, answered_by = NULL, answered_at = NULL
WHERE id = :id RETURNING *;

-- name: settle_dispute^
-- The second person agrees.
UPDATE redemption.statement_dispute SET state = 'settled', settled_by = :actor_id, settled_at = :now
WHERE id = :id RETURNING *;

-- name: add_correction!
-- One more line, about a dispute.
INSERT INTO redemption.statement_line
    (merchant_id, day, kind, subject, redemption_id, store_id, amount_fen, fee_bps, fee_fen, happened_at)
SELECT l.merchant_id, l.day, 'correction', :dispute_id, l.redemption_id, l.store_id, :amount_fen, 0, 0, :now
FROM redemption.statement_line l WHERE l.id = :line_id;

-- name: correct_statement!
-- The statement is the sum of its lines, one more included.
UPDATE redemption.statement SET lines = lines + 1, lines_gross_fen = lines_gross_fen + :amount_fen WHERE id = :id;

-- name: end_disputes!
-- Once no dispute of a statement is left, it is corrected if any changed it and confirmed if none did.
UPDATE redemption.statement s
SET state = CASE WHEN EXISTS (SELECT FROM redemption.statement_dispute d
                              WHERE d.statement_id = s.id AND d.correction_fen <> 0)
                 THEN 'corrected' ELSE 'confirmed' END,
    confirmed_at = :now
WHERE s.id = :id AND s.state = 'disputed'
  AND NOT EXISTS (SELECT FROM redemption.statement_dispute d WHERE d.statement_id = s.id AND d.state <> 'settled');

-- name: add_transfer^
-- A bank transfer is recorded; no row when the statement has one or the reference is used.
INSERT INTO redemption.merchant_transfer
    (id, statement_id, institution, reference, amount_fen, state, recorded_by, recorded_at)
VALUES (:id, :statement_id, :institution, :reference, :amount_fen, 'recorded', :actor_id, :now)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: transfers_of
-- The bank transfers recorded for a statement, oldest first.
SELECT * FROM redemption.merchant_transfer WHERE statement_id = :statement_id ORDER BY id LIMIT :limit;

-- name: check_transfer^
-- A second person confirms or refuses the record of a transfer.
UPDATE redemption.merchant_transfer SET state = :state, checked_by = :actor_id, checked_at = :now, note = :note
WHERE id = :id RETURNING *;

-- name: pay_statement!
-- The statement is paid, and its redemptions are settled.
WITH paid AS (
    UPDATE redemption.statement SET state = 'paid', paid_at = :now WHERE id = :id RETURNING merchant_id, day
)
UPDATE redemption.redemption r SET state = 'settled', settled_at = :now
FROM paid p JOIN redemption.statement_line l ON l.merchant_id = p.merchant_id AND l.day = p.day
WHERE l.kind = 'redemption' AND r.id = l.subject AND r.state = 'captured';

-- name: add_contract^
-- A contract from a day on; no row when one begins that day.
INSERT INTO redemption.merchant_contract (id, merchant_id, fee_bps, valid_from, valid_to, created_by, created_at)
VALUES (:id, :merchant_id, :fee_bps, :valid_from, :valid_to, :actor_id, :now)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: list_contracts
-- Contracts, newest first, after a cursor.
SELECT * FROM redemption.merchant_contract
WHERE (:merchant_id::text IS NULL OR merchant_id = :merchant_id) AND (:before::text IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;

-- name: add_claims
-- What merchants are owed or owe for something else; those known before are left out of the answer.
INSERT INTO redemption.merchant_claim (subject, merchant_id, kind, amount_fen, note, created_by, happened_at)
SELECT * FROM unnest(:subjects::text[], :merchant_ids::text[], :kinds::text[], :amounts::bigint[], :notes::text[],
                     :creators::text[], :happened::timestamptz[])
ON CONFLICT (subject) DO NOTHING
RETURNING subject;
