-- Reconciliation: the channels' daily bills against our records and the ledger, cases, and the stop of payouts.

INSERT INTO base.permission (word) VALUES
    ('reconciliation.approve'), ('reconciliation.decide'), ('reconciliation.read'), ('settlement.stop');
INSERT INTO base.role_grant (role, permission, scope) VALUES
    ('finance', 'reconciliation.read', 'all'),
    ('finance', 'reconciliation.decide', 'all'),
    ('finance', 'reconciliation.approve', 'all'),
    ('finance', 'settlement.stop', 'all'),
    ('compliance', 'reconciliation.read', 'all'),
    ('compliance', 'reconciliation.approve', 'all'),
    ('auditor', 'reconciliation.read', 'all');

CREATE TABLE settlement.bill (
    channel       text COLLATE "C" NOT NULL,
    day           date NOT NULL,
    fetched_at    timestamptz NOT NULL,
    reconciled_at timestamptz,
    lines         int NOT NULL CHECK (lines >= 0),
    in_fen        bigint NOT NULL CHECK (in_fen >= 0),
    out_fen       bigint NOT NULL CHECK (out_fen >= 0),
    PRIMARY KEY (channel, day)
);
COMMENT ON TABLE settlement.bill IS '对账单: what a channel says moved on one Shanghai day';
COMMENT ON COLUMN settlement.bill.reconciled_at IS 'When it was last compared with the books and our records';

CREATE TABLE settlement.reconciliation_case (
    id             text COLLATE "C" PRIMARY KEY,
    channel        text COLLATE "C" NOT NULL,
    day            date NOT NULL,
    class          text COLLATE "C" NOT NULL CHECK (class IN (
                   'missing_in_bill', 'missing_in_books', 'amount_differs', 'state_differs', 'duplicate_in_bill',
                   'posted_not_in_bill', 'late', 'bill_changed')),
    state          text COLLATE "C" NOT NULL CHECK (state IN (
                   'open', 'proposed', 'explained', 'corrected', 'written_off')),
    kind           text COLLATE "C" NOT NULL CHECK (kind IN ('transfer', 'return', 'payment', 'refund')),
    out_no         text COLLATE "C" NOT NULL,
    bill_day       date,
    bill_seq       bigint,
    leg_id         bigint,
    bill_fen       bigint CHECK (bill_fen >= 0),
    booked_fen     bigint CHECK (booked_fen >= 0),
    delta_fen      bigint NOT NULL,
    suspended      boolean NOT NULL DEFAULT false,
    proposal       text COLLATE "C" CHECK (proposal IN ('corrected', 'written_off')),
    proposed_by    text COLLATE "C",
    decided_by     text COLLATE "C",
    found_at       timestamptz NOT NULL,
    due_at         timestamptz NOT NULL,
    alarmed_at     timestamptz,
    closed_at      timestamptz,
    CONSTRAINT about_something CHECK (num_nonnulls(bill_seq, leg_id) > 0),
    CONSTRAINT line_whole CHECK (num_nulls(bill_day, bill_seq, bill_fen) IN (0, 3)),
    CONSTRAINT proposed_whole CHECK (state <> 'proposed' OR num_nulls(proposal, proposed_by) = 0),
    CONSTRAINT two_pairs_of_eyes CHECK (proposed_by <> decided_by),
    CONSTRAINT closed_by_two CHECK (state NOT IN ('corrected', 'written_off') OR num_nulls(proposed_by, decided_by) = 0),
    CONSTRAINT closed_when CHECK ((state IN ('explained', 'corrected', 'written_off')) = (closed_at IS NOT NULL))
) WITH (fillfactor = 85);
COMMENT ON TABLE settlement.reconciliation_case IS '差错: a difference between bill, books and records, found once, with what became of it';
COMMENT ON COLUMN settlement.reconciliation_case.delta_fen IS 'What the channel holds more (or less) than the books say because of it';
COMMENT ON COLUMN settlement.reconciliation_case.suspended IS 'Whether the difference stands in suspense or unidentified receipts';
COMMENT ON COLUMN settlement.reconciliation_case.due_at IS 'When it must be closed; after that the alarm is raised once';
COMMENT ON COLUMN settlement.reconciliation_case.leg_id IS 'The transfer of the ledger that it is about';
CREATE UNIQUE INDEX one_case_a_line ON settlement.reconciliation_case (channel, bill_day, bill_seq, (class = 'bill_changed'))
    WHERE bill_seq IS NOT NULL;
CREATE UNIQUE INDEX one_case_a_leg ON settlement.reconciliation_case (leg_id) WHERE leg_id IS NOT NULL;
CREATE INDEX case_open ON settlement.reconciliation_case (channel, due_at) WHERE state IN ('open', 'proposed');
CREATE INDEX case_state ON settlement.reconciliation_case (state, id);

CREATE TABLE settlement.case_step (
    case_id  text COLLATE "C" NOT NULL REFERENCES settlement.reconciliation_case,
    id       bigint GENERATED ALWAYS AS IDENTITY,
    at       timestamptz NOT NULL,
    state    text COLLATE "C" NOT NULL,
    actor_id text COLLATE "C",
    note     text,
    PRIMARY KEY (case_id, id)
);
COMMENT ON TABLE settlement.case_step IS 'What happened to a case, and who did it. Rows are only added';

CREATE TABLE settlement.bill_line (
    channel        text COLLATE "C" NOT NULL,
    day            date NOT NULL,
    seq            bigint NOT NULL,
    kind           text COLLATE "C" NOT NULL CHECK (kind IN ('transfer', 'return', 'payment', 'refund')),
    out_no         text COLLATE "C" NOT NULL,
    institution_no text COLLATE "C" NOT NULL,
    amount_fen     bigint NOT NULL CHECK (amount_fen >= 0),
    at             timestamptz NOT NULL,
    leg_id         bigint,
    case_id        text COLLATE "C",
    PRIMARY KEY (channel, day, seq),
    FOREIGN KEY (channel, day) REFERENCES settlement.bill
) WITH (fillfactor = 70);
COMMENT ON TABLE settlement.bill_line IS 'One movement of money, as the channel tells it';
COMMENT ON COLUMN settlement.bill_line.leg_id IS 'The transfer of the ledger that it was found equal to';
CREATE INDEX bill_line_out_no ON settlement.bill_line (out_no);
CREATE INDEX bill_line_open ON settlement.bill_line (channel, day) WHERE leg_id IS NULL;

CREATE TABLE settlement.bill_event (
    event text COLLATE "C" PRIMARY KEY,
    kind  text COLLATE "C" NOT NULL CHECK (kind IN ('transfer', 'return', 'payment', 'refund'))
);
COMMENT ON TABLE settlement.bill_event IS 'Which events of the ledger move custody one by one as a line of the bill does, and as which kind of line';
INSERT INTO settlement.bill_event (event, kind) VALUES
    ('payout_confirmed', 'transfer'), ('payout_returned', 'return'), ('purchase_paid', 'payment'),
    ('payment_to_return', 'payment'), ('refund_paid', 'refund');

CREATE TABLE settlement.custody_leg (
    id         bigint PRIMARY KEY,
    channel    text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL CHECK (kind IN ('transfer', 'return', 'payment', 'refund')),
    out_no     text COLLATE "C" NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    booked_at  timestamptz NOT NULL,
    day        date NOT NULL,
    bill_day   date,
    case_id    text COLLATE "C"
) WITH (fillfactor = 70);
COMMENT ON TABLE settlement.custody_leg IS 'Legs of custody accounts, copied from the ledger to be found in a bill; those taken back are left out';
COMMENT ON COLUMN settlement.custody_leg.id IS 'Of the transfer in the ledger';
COMMENT ON COLUMN settlement.custody_leg.bill_day IS 'The bill in which an equal line was found';
CREATE INDEX custody_leg_open ON settlement.custody_leg (channel, day) WHERE bill_day IS NULL;
CREATE INDEX custody_leg_out_no ON settlement.custody_leg (out_no);

CREATE TABLE settlement.custody_mark (
    the_only     boolean PRIMARY KEY DEFAULT true CHECK (the_only),
    collected_to xid8 NOT NULL
);
COMMENT ON TABLE settlement.custody_mark IS 'Legs posted by transactions below this one have been copied';
INSERT INTO settlement.custody_mark (collected_to) VALUES ('0');

CREATE TABLE settlement.stop (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stopped_at timestamptz NOT NULL,
    stopped_by text COLLATE "C",
    reason     text NOT NULL,
    facts      jsonb NOT NULL,
    lifted_at  timestamptz,
    lifted_by  text COLLATE "C",
    note       text,
    resumed_at timestamptz,
    CONSTRAINT lifted_whole CHECK (num_nulls(lifted_at, lifted_by, note) IN (0, 3)),
    CONSTRAINT resumed_once_lifted CHECK (resumed_at IS NULL OR lifted_at IS NOT NULL)
);
COMMENT ON TABLE settlement.stop IS '停付: while one is not lifted, no transfer is sent; everything else goes on';
COMMENT ON COLUMN settlement.stop.stopped_by IS 'Who stopped payouts; null: the comparison of books and mirror';
COMMENT ON COLUMN settlement.stop.resumed_at IS 'When the transfers that waited were told to be due again';
CREATE UNIQUE INDEX one_stop ON settlement.stop ((true)) WHERE lifted_at IS NULL;

-- What our own records say of every movement that a bill could tell of. `booked`: the ledger must have it.
CREATE VIEW settlement.instructed AS
SELECT t.channel, 'transfer'::text COLLATE "C" AS kind, t.out_no, p.amount_fen,
       t.state, t.state IN ('succeeded', 'returned') AS moved,
       t.state IN ('succeeded', 'returned') AND p.flag IS DISTINCT FROM 'paid_not_owed' AS booked
FROM settlement.attempt t JOIN settlement.payout p ON p.id = t.payout_id
WHERE t.channel IS NOT NULL
UNION ALL
SELECT t.channel, 'return', t.out_no, p.amount_fen, t.state, true, p.flag IS DISTINCT FROM 'paid_not_owed'
FROM settlement.attempt t JOIN settlement.payout p ON p.id = t.payout_id
WHERE t.state = 'returned'
UNION ALL
SELECT 'institution', 'payment', replace(u.id, '_', ''), coalesce(u.received_fen, u.total_fen), u.state,
       u.received_fen IS NOT NULL, u.received_fen IS NOT NULL
FROM redistribution.purchase u
UNION ALL
SELECT 'institution', 'refund', replace(r.id, '_', ''), r.amount_fen,
       CASE WHEN r.done_at IS NULL THEN 'wanted' ELSE 'done' END, r.done_at IS NOT NULL, r.done_at IS NOT NULL
FROM redistribution.refund r;
COMMENT ON VIEW settlement.instructed IS 'Transfers, returns, payments and refunds as our records have them, by the number that the channel knows';

CREATE FUNCTION settlement.collect_custody() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    low xid8;
    high xid8;
    copied bigint;
BEGIN
    SELECT m.collected_to INTO low FROM settlement.custody_mark m FOR UPDATE;
    -- Every transaction below the oldest running one has ended, so none can add a leg there any more.
    high := pg_snapshot_xmin(pg_current_snapshot());
    IF high <= low THEN
        RETURN 0;
    END IF;
    INSERT INTO settlement.custody_leg (id, channel, kind, out_no, amount_fen, booked_at, day)
    SELECT t.id, substr(a.code, length('custody:') + 1), e.kind,
           replace(split_part(coalesce(r.purchase_id, t.subject), '-', 1), '_', ''),
           t.amount_fen, t.event_at, (t.event_at AT TIME ZONE 'Asia/Shanghai')::date
    FROM ledger.transfer t
    JOIN settlement.bill_event e ON e.event = t.event
    JOIN ledger.account a ON a.prefix = 'custody' AND a.id IN (t.src, t.dst)
    LEFT JOIN redistribution.refund r ON t.event = 'payment_to_return' AND r.id = t.subject
    WHERE t.xid >= low AND t.xid < high AND t.reverses IS NULL;
    GET DIAGNOSTICS copied = ROW_COUNT;
    DELETE FROM settlement.custody_leg l
    USING ledger.transfer t WHERE t.xid >= low AND t.xid < high AND t.reverses = l.id;
    UPDATE settlement.custody_mark SET collected_to = high;
    RETURN copied;
END $$;
COMMENT ON FUNCTION settlement.collect_custody IS
    'Copy the settled legs of custody accounts that a bill should tell of; a leg that was taken back goes';

-- The books beside the mirror, in one statement and so in one snapshot.
CREATE VIEW settlement.books_and_mirror AS
WITH booked AS (
    SELECT substr(a.code, length('custody:') + 1) AS channel, e.kind,
           sum(CASE WHEN t.reverses IS NULL THEN t.amount_fen ELSE -t.amount_fen END)::bigint AS fen
    FROM ledger.account a
    JOIN ledger.transfer t ON a.id IN (t.src, t.dst)
    LEFT JOIN ledger.transfer o ON o.id = t.reverses
    JOIN settlement.bill_event e ON e.event = coalesce(o.event, t.event)
    WHERE a.prefix = 'custody'
    GROUP BY 1, 2
), told AS (
    SELECT channel, kind, sum(amount_fen)::bigint AS fen FROM settlement.instructed WHERE booked GROUP BY 1, 2
), under_way AS (
    SELECT coalesce(sum(p.amount_fen), 0)::bigint AS fen
    FROM settlement.payout p
    WHERE (p.method = 'cash' AND p.state IN ('submitted', 'unknown', 'awaiting_payee'))
       OR (p.method = 'goods' AND p.state = 'awaiting_payee')
), owed AS (
    SELECT p.seller_id, sum(p.amount_fen)::bigint AS fen FROM settlement.payout p WHERE p.state = 'held' GROUP BY 1
)
SELECT 'custody_' || coalesce(b.kind, t.kind) AS name, coalesce(b.channel, t.channel) AS channel,
       coalesce(b.fen, 0) AS books_fen, coalesce(t.fen, 0) AS mirror_fen, true AS stops
FROM booked b FULL JOIN told t ON t.channel = b.channel AND t.kind = b.kind
UNION ALL
SELECT 'payout_pending', NULL,
       coalesce((SELECT b.balance_fen FROM ledger.balance b WHERE b.code = 'payout_pending'), 0), u.fen, true
FROM under_way u
UNION ALL
SELECT 'user_payable', NULL, coalesce(sum(least(b.balance_fen, o.fen)), 0)::bigint, coalesce(sum(o.fen), 0)::bigint, false
FROM owed o LEFT JOIN ledger.balance b ON b.code = 'user_payable:' || o.seller_id;
COMMENT ON VIEW settlement.books_and_mirror IS
    'What the ledger says beside what our records say: custody by channel and kind, payouts under way, and what held '
    'payouts still need of their sellers'' accounts (which a clawback may have taken, so that one stops nothing)';

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('reconciliation_case', 'open', 'proposed'),
    ('reconciliation_case', 'open', 'explained'),
    ('reconciliation_case', 'proposed', 'open'),
    ('reconciliation_case', 'proposed', 'explained'),
    ('reconciliation_case', 'proposed', 'corrected'),
    ('reconciliation_case', 'proposed', 'written_off');
CREATE TRIGGER reconciliation_case_moves BEFORE UPDATE ON settlement.reconciliation_case FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('reconciliation_case', 'state');
