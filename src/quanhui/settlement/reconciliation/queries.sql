-- name: known_days
-- Days whose bill is here, of those asked about.
SELECT day FROM settlement.bill WHERE channel = :channel AND day >= :since;

-- name: add_bill$
-- Keep the bill of a day, or note that it was fetched again; whether it was new.
INSERT INTO settlement.bill AS b (channel, day, fetched_at, lines, in_fen, out_fen)
VALUES (:channel, :day, :now, :lines, :in_fen, :out_fen)
ON CONFLICT (channel, day) DO UPDATE SET fetched_at = excluded.fetched_at
RETURNING b.xmax = 0;

-- name: add_lines!
-- Keep lines of a bill, each once; those kept before stay as they were.
INSERT INTO settlement.bill_line (channel, day, seq, kind, out_no, institution_no, amount_fen, at)
SELECT :channel, :day, g.seq, g.kind, g.out_no, g.institution_no, g.amount_fen, g.at
FROM unnest(:seqs::bigint[], :kinds::text[], :out_nos::text[], :institution_nos::text[], :amounts_fen::bigint[],
            :ats::timestamptz[]) AS g(seq, kind, out_no, institution_no, amount_fen, at)
ON CONFLICT DO NOTHING;

-- name: changed_lines
-- Lines of a kept bill that a new copy has otherwise, or no longer has, and that no case tells of yet.
SELECT l.day AS bill_day, l.seq AS bill_seq, l.kind, l.out_no, l.amount_fen AS bill_fen
FROM settlement.bill_line l
LEFT JOIN unnest(:seqs::bigint[], :kinds::text[], :out_nos::text[], :amounts_fen::bigint[])
    AS g(seq, kind, out_no, amount_fen) ON g.seq = l.seq
WHERE l.channel = :channel AND l.day = :day
  AND (g.seq IS NULL OR (g.kind, g.out_no, g.amount_fen) IS DISTINCT FROM (l.kind, l.out_no, l.amount_fen))
  AND NOT EXISTS (
      SELECT FROM settlement.reconciliation_case c
      WHERE c.channel = l.channel AND c.bill_day = l.day AND c.bill_seq = l.seq AND c.class = 'bill_changed')
ORDER BY l.seq;

-- name: collect_custody$
-- Copy the settled legs of custody; how many there were.
SELECT settlement.collect_custody();

-- name: plan_for_sets!
-- Until the transaction ends or this is taken back: join whole sets by hashing, whatever stale statistics say of a bill just kept.
SELECT set_config('enable_nestloop', :others::text, true), set_config('enable_mergejoin', :others::text, true),
       set_config('work_mem', '64MB', true);

-- name: match_lines$
-- Tick off lines and legs that are equal and whose record says that the money moved; how many.
WITH line AS (
    SELECT l.day, l.seq, l.kind, l.out_no, l.amount_fen,
           row_number() OVER (PARTITION BY l.kind, l.out_no, l.amount_fen ORDER BY l.day, l.seq) AS n
    FROM settlement.bill_line l WHERE l.channel = :channel AND l.day <= :day AND l.leg_id IS NULL
), leg AS (
    SELECT g.id, g.kind, g.out_no, g.amount_fen,
           row_number() OVER (PARTITION BY g.kind, g.out_no, g.amount_fen ORDER BY g.id) AS n
    FROM settlement.custody_leg g WHERE g.channel = :channel AND g.bill_day IS NULL
), pair AS (
    SELECT l.day, l.seq, g.id
    FROM line l
    JOIN leg g ON g.kind = l.kind AND g.out_no = l.out_no AND g.amount_fen = l.amount_fen AND g.n = l.n
    JOIN settlement.instructed i
        ON i.channel = :channel AND i.kind = l.kind AND i.out_no = l.out_no AND i.amount_fen = l.amount_fen AND i.moved
), legs AS (
    UPDATE settlement.custody_leg g SET bill_day = p.day FROM pair p
    WHERE g.id = p.id AND g.channel = :channel AND g.bill_day IS NULL
), lines AS (
    UPDATE settlement.bill_line l SET leg_id = p.id
    FROM pair p
    WHERE l.channel = :channel AND l.day = p.day AND l.seq = p.seq AND l.day <= :day AND l.leg_id IS NULL
    RETURNING 1
)
SELECT count(*) FROM lines;

-- name: find_differences
-- What is left over up to a day and has no case, with its class.
WITH line AS (
    SELECT l.day, l.seq, l.kind, l.out_no, l.amount_fen,
           row_number() OVER (PARTITION BY l.kind, l.out_no ORDER BY l.day, l.seq) AS n
    FROM settlement.bill_line l
    WHERE l.channel = :channel AND l.day <= :day AND l.leg_id IS NULL AND l.case_id IS NULL
), leg AS (
    SELECT g.id, g.day, g.kind, g.out_no, g.amount_fen, g.booked_at,
           row_number() OVER (PARTITION BY g.kind, g.out_no ORDER BY g.id) AS n
    FROM settlement.custody_leg g
    WHERE g.channel = :channel AND g.bill_day IS NULL AND g.case_id IS NULL
      AND (g.day <= :day OR EXISTS (SELECT FROM line l WHERE l.kind = g.kind AND l.out_no = g.out_no))
), pair AS (
    SELECT coalesce(l.day, g.day) AS day, coalesce(l.kind, g.kind) AS kind, coalesce(l.out_no, g.out_no) AS out_no,
           l.day AS bill_day, l.seq AS bill_seq, g.id AS leg_id, l.amount_fen AS bill_fen, g.amount_fen AS booked_fen,
           g.booked_at
    FROM line l FULL JOIN leg g ON g.kind = l.kind AND g.out_no = l.out_no AND g.n = l.n
)
SELECT p.day, p.kind, p.out_no, p.bill_day, p.bill_seq, p.leg_id, p.bill_fen, p.booked_fen,
       CASE WHEN p.kind IN ('return', 'payment') THEN 1 ELSE -1 END
           * (coalesce(p.bill_fen, 0) - coalesce(p.booked_fen, 0)) AS delta_fen,
       CASE
           WHEN p.bill_seq IS NULL AND p.booked_at >= :late_from AND coalesce(i.moved, false) THEN 'late'
           WHEN p.bill_seq IS NULL AND coalesce(i.moved, false) THEN 'missing_in_bill'
           WHEN p.bill_seq IS NULL THEN 'posted_not_in_bill'
           WHEN p.leg_id IS NOT NULL AND p.bill_fen <> p.booked_fen THEN 'amount_differs'
           WHEN p.leg_id IS NULL AND EXISTS (
               SELECT FROM settlement.bill_line e
               WHERE e.channel = :channel AND e.out_no = p.out_no AND e.kind = p.kind
                 AND (e.day, e.seq) <> (p.bill_day, p.bill_seq)
                 AND (e.leg_id IS NOT NULL OR (e.day, e.seq) < (p.bill_day, p.bill_seq))) THEN 'duplicate_in_bill'
           WHEN i.moved IS FALSE THEN 'state_differs'
           WHEN p.leg_id IS NOT NULL THEN 'state_differs'
           ELSE 'missing_in_books'
       END AS class
FROM pair p
LEFT JOIN settlement.instructed i ON i.channel = :channel AND i.kind = p.kind AND i.out_no = p.out_no
ORDER BY p.day, p.bill_seq NULLS LAST, p.leg_id;

-- name: add_cases!
-- Open cases, and tie them to their lines and legs.
WITH given AS (
    SELECT * FROM unnest(
        :ids::text[], :days::date[], :classes::text[], :kinds::text[], :out_nos::text[], :bill_days::date[],
        :bill_seqs::bigint[], :leg_ids::bigint[], :bills_fen::bigint[], :booked_fen::bigint[], :deltas_fen::bigint[],
        :suspended::boolean[])
        AS g(id, day, class, kind, out_no, bill_day, bill_seq, leg_id, bill_fen, booked_fen, delta_fen, suspended)
), added AS (
    INSERT INTO settlement.reconciliation_case (id, channel, day, class, state, kind, out_no, bill_day, bill_seq,
        leg_id, bill_fen, booked_fen, delta_fen, suspended, found_at, due_at)
    SELECT id, :channel, day, class, 'open', kind, out_no, bill_day, bill_seq, leg_id, bill_fen, booked_fen,
           delta_fen, suspended, :now, :due_at
    FROM given
), lines AS (
    UPDATE settlement.bill_line l SET case_id = g.id
    FROM given g
    WHERE l.channel = :channel AND l.day = g.bill_day AND l.seq = g.bill_seq AND g.class <> 'bill_changed'
), legs AS (
    UPDATE settlement.custody_leg l SET case_id = g.id FROM given g WHERE l.id = g.leg_id
)
INSERT INTO settlement.case_step (case_id, at, state, note) SELECT id, :now, 'open', class FROM given ORDER BY id;

-- name: overtake_late
-- What was thought to be late and is not in the next bill either is missing.
UPDATE settlement.reconciliation_case c SET class = 'missing_in_bill', suspended = true
WHERE c.channel = :channel AND c.class = 'late' AND c.state IN ('open', 'proposed') AND c.day < :day
  AND EXISTS (SELECT FROM settlement.custody_leg g WHERE g.id = c.leg_id AND g.bill_day IS NULL)
RETURNING c.id, c.channel, c.delta_fen;

-- name: explain_cases
-- Close the cases whose line and leg have each found their like since, or whose leg was taken back.
WITH explained AS (
    UPDATE settlement.reconciliation_case c SET state = 'explained', closed_at = :now
    WHERE c.channel = :channel AND c.state IN ('open', 'proposed') AND c.class <> 'bill_changed'
      AND NOT EXISTS (
          SELECT FROM settlement.bill_line l
          WHERE l.channel = c.channel AND l.day = c.bill_day AND l.seq = c.bill_seq AND l.leg_id IS NULL)
      AND NOT EXISTS (SELECT FROM settlement.custody_leg g WHERE g.id = c.leg_id AND g.bill_day IS NULL)
    RETURNING c.id, c.suspended, c.delta_fen
), told AS (
    INSERT INTO settlement.case_step (case_id, at, state) SELECT id, :now, 'explained' FROM explained ORDER BY id
)
SELECT id, suspended, delta_fen FROM explained;

-- name: mark_reconciled!
-- The bills of a channel up to a day have been compared.
UPDATE settlement.bill SET reconciled_at = :now WHERE channel = :channel AND day = :day;

-- name: lock_cases
-- Cases by id, locked in the order of their ids.
SELECT * FROM settlement.reconciliation_case WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE;

-- name: move_cases!
-- Cases come to another state, with who did it and why.
WITH moved AS (
    UPDATE settlement.reconciliation_case c
    SET state = :state, proposal = coalesce(:proposal, c.proposal),
        proposed_by = CASE WHEN :state = 'proposed' THEN :actor_id ELSE c.proposed_by END,
        decided_by = CASE WHEN :state IN ('corrected', 'written_off') THEN :actor_id END,
        closed_at = CASE WHEN :state IN ('corrected', 'written_off') THEN :now::timestamptz END
    WHERE c.id = ANY(:ids::text[])
    RETURNING c.id
)
INSERT INTO settlement.case_step (case_id, at, state, actor_id, note)
SELECT id, :now, :state, :actor_id, :note FROM moved ORDER BY id;

-- name: alarm_overdue
-- Open cases that have aged out and were not told of yet.
UPDATE settlement.reconciliation_case SET alarmed_at = :now
WHERE state IN ('open', 'proposed') AND due_at <= :now AND alarmed_at IS NULL
RETURNING id, channel, class, delta_fen;

-- name: list_days
-- Bills with how their comparison stands, the latest day first.
SELECT b.channel, b.day, b.fetched_at, b.reconciled_at, b.lines, b.in_fen, b.out_fen,
       (SELECT count(*) FROM settlement.bill_line l
        WHERE l.channel = b.channel AND l.day = b.day AND l.leg_id IS NOT NULL) AS matched,
       (SELECT count(*) FROM settlement.reconciliation_case c
        WHERE c.channel = b.channel AND c.day = b.day) AS cases,
       (SELECT count(*) FROM settlement.reconciliation_case c
        WHERE c.channel = b.channel AND c.day = b.day AND c.state IN ('open', 'proposed')) AS open_cases
FROM settlement.bill b
WHERE (:channel::text IS NULL OR b.channel = :channel) AND (:before::date IS NULL OR b.day < :before)
ORDER BY b.day DESC, b.channel LIMIT :limit;

-- name: list_cases
-- Cases that match every filter given, newest first, after a cursor.
SELECT * FROM settlement.reconciliation_case
WHERE (:state::text IS NULL OR state = :state) AND (:in_class::text IS NULL OR class = :in_class)
  AND (:channel::text IS NULL OR channel = :channel)
  AND (:found_before::timestamptz IS NULL OR found_at <= :found_before)
  AND (:cursor::text IS NULL OR id < :cursor)
ORDER BY id DESC LIMIT :limit;

-- name: find_cases
-- Cases by id.
SELECT * FROM settlement.reconciliation_case WHERE id = ANY(:ids::text[]);

-- name: list_case_steps
-- What happened to a case, oldest first.
SELECT at, state, actor_id, note FROM settlement.case_step WHERE case_id = :case_id ORDER BY id LIMIT :limit;

-- name: lines_of
-- Every line of a channel's bills about one number.
SELECT day, seq, kind, out_no, institution_no, amount_fen, at, leg_id IS NOT NULL AS matched
FROM settlement.bill_line WHERE channel = :channel AND out_no = :out_no ORDER BY day, seq LIMIT :limit;

-- name: legs_of
-- Every leg of custody about one number.
SELECT id, kind, amount_fen, booked_at, bill_day
FROM settlement.custody_leg WHERE channel = :channel AND out_no = :out_no ORDER BY id LIMIT :limit;

-- name: instructed_of
-- What our own records say about one number.
SELECT kind, amount_fen, state, moved FROM settlement.instructed
WHERE channel = :channel AND out_no = :out_no ORDER BY kind;

-- name: payout_of$
-- The payout that a transfer belongs to.
SELECT payout_id FROM settlement.attempt WHERE out_no = :out_no;

-- name: compare_books
-- The books beside the mirror, in one snapshot.
SELECT name, channel, books_fen, mirror_fen, stops FROM settlement.books_and_mirror ORDER BY name, channel;

-- name: add_stop$
-- Stop payouts, unless they are stopped.
INSERT INTO settlement.stop (stopped_at, stopped_by, reason, facts)
VALUES (:now, :actor_id, :reason, :facts) ON CONFLICT DO NOTHING RETURNING id;

-- name: lift_stop$
-- Lift the stop, if there is one.
UPDATE settlement.stop SET lifted_at = :now, lifted_by = :actor_id, note = :note
WHERE lifted_at IS NULL RETURNING id;

-- name: current_stop^
-- The stop that holds payouts back now.
SELECT stopped_at, stopped_by, reason, facts FROM settlement.stop WHERE lifted_at IS NULL;

-- name: resume
-- Transfers that waited for a stop to be lifted, once after each; one that is stopped again waits on.
WITH lifted AS (
    UPDATE settlement.stop SET resumed_at = :now
    WHERE lifted_at IS NOT NULL AND resumed_at IS NULL
      AND NOT EXISTS (SELECT FROM settlement.stop s WHERE s.lifted_at IS NULL)
    RETURNING id
)
SELECT t.out_no FROM settlement.attempt t JOIN settlement.payout p ON p.id = t.payout_id
WHERE t.state = 'new' AND p.flag IS NULL AND EXISTS (SELECT FROM lifted) ORDER BY t.out_no;
