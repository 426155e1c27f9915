-- The ledger: accounts, transfers between them, and the only functions that may write either.
--
-- A transfer is one row with both legs, so every posting sums to zero by construction. Its source is debited,
-- its destination credited; a balance is credits minus debits. A guarded account carries its balance
-- in its row, changed in the posting under a lock and never below its floor. A deferred account (one that
-- every order touches) is not locked: its legs lie in the transfers, the tail, until ledger.fold adds them to its row.

CREATE SCHEMA ledger;

CREATE TABLE ledger.chart (
    prefix     text COLLATE "C" PRIMARY KEY,
    book       text NOT NULL CHECK (book IN ('client', 'platform')),
    kind       text NOT NULL CHECK (kind IN ('guarded', 'deferred')),
    floor_fen  bigint CHECK ((kind = 'guarded') = (floor_fen IS NOT NULL)),
    named_by   text,
    meaning_zh text NOT NULL,
    meaning_en text NOT NULL
);
COMMENT ON TABLE ledger.chart IS 'The chart of accounts: what kinds there are. Accounts open themselves on first use';
COMMENT ON COLUMN ledger.chart.named_by IS
    'Whose id follows the prefix and a colon in the code; null when the prefix is the one account itself';

INSERT INTO ledger.chart (prefix, book, kind, floor_fen, named_by, meaning_zh, meaning_en) VALUES
    ('custody', 'client', 'deferred', NULL, 'institution', '机构托管资金', 'Money held by a licensed institution'),
    ('user_payable', 'client', 'guarded', 0, 'customer', '应付用户款', 'Owed to a customer'),
    ('payout_pending', 'client', 'deferred', NULL, NULL, '出款在途', 'Payouts instructed and not yet known to have ended'),
    ('stored_value', 'client', 'guarded', 0, 'customer', '用户储值', 'Stored value of a customer'),
    ('merchant_settlement', 'client', 'guarded', 0, 'merchant', '应付商户结算款', 'Owed to a merchant'),
    ('issuer_receivable', 'client', 'deferred', NULL, 'issuer', '应收发行方款', 'Due from an issuer for vouchers redeemed'),
    ('unidentified_receipts', 'client', 'deferred', NULL, NULL, '待认领来款', 'Receipts whose sender is not yet known'),
    ('client:clearing', 'client', 'deferred', NULL, NULL, '客户账簿清算', 'Where the client book meets the platform book'),
    ('own_funds', 'platform', 'deferred', NULL, NULL, '自有资金', 'Own money of the platform'),
    ('inventory', 'platform', 'deferred', NULL, 'product', '库存券成本', 'Vouchers in stock, at cost'),
    ('cost_of_goods', 'platform', 'deferred', NULL, NULL, '销售成本', 'Cost of vouchers sold'),
    ('resale_revenue', 'platform', 'deferred', NULL, NULL, '转售收入', 'Revenue from vouchers sold'),
    ('fee_income', 'platform', 'deferred', NULL, NULL, '服务费收入', 'Fees earned'),
    ('channel_cost', 'platform', 'deferred', NULL, NULL, '通道费', 'Fees of payment channels'),
    ('campaign_subsidy', 'platform', 'deferred', NULL, NULL, '营销补贴', 'Subsidies paid in campaigns'),
    ('loan_principal', 'platform', 'deferred', NULL, 'customer', '贷款本金', 'Principal lent to a customer'),
    ('loan_interest_receivable', 'platform', 'deferred', NULL, NULL, '应收利息', 'Interest due'),
    ('interest_income', 'platform', 'deferred', NULL, NULL, '利息收入', 'Interest earned'),
    ('user_receivable', 'platform', 'deferred', NULL, 'customer', '应收用户款', 'Due from a customer after a clawback'),
    ('risk_reserve', 'platform', 'deferred', NULL, NULL, '风险准备金', 'Set aside for losses'),
    ('suspense', 'platform', 'deferred', NULL, NULL, '待查差错', 'Differences under investigation'),
    ('platform:clearing', 'platform', 'deferred', NULL, NULL, '平台账簿清算', 'Where the platform book meets the client book');

-- An account copies its line of the chart when it opens: ledger.open_accounts is the only writer.
CREATE TABLE ledger.account (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code        text COLLATE "C" NOT NULL UNIQUE CHECK (code ~ '^[a-z_]+(:[A-Za-z0-9_.-]+)?$'),
    prefix      text COLLATE "C" NOT NULL,
    book        text NOT NULL,
    kind        text NOT NULL,
    floor_fen   bigint,
    balance_fen bigint NOT NULL DEFAULT 0,
    held_fen    bigint NOT NULL DEFAULT 0 CHECK (held_fen >= 0),
    version     bigint NOT NULL DEFAULT 0,
    opened_at   timestamptz NOT NULL,
    CONSTRAINT not_below_floor CHECK (balance_fen - held_fen >= floor_fen)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE ledger.account IS 'Who is owed what; guarded accounts are exact here, deferred ones up to ledger.fold_mark';
COMMENT ON COLUMN ledger.account.balance_fen IS 'Of a deferred account only what is folded: read ledger.balance for all of it';
COMMENT ON COLUMN ledger.account.held_fen IS 'Set aside within the balance: the guard counts it as gone';
COMMENT ON COLUMN ledger.account.version IS 'How many postings (guarded) or folds (deferred) have changed the balance';

-- No foreign key to the accounts: its share lock on a hot row would cost several times the posting itself.
-- ledger.post takes the ids from the accounts, and accounts are never deleted.
CREATE TABLE ledger.transfer (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key        text COLLATE "C" NOT NULL,
    src        bigint NOT NULL,
    dst        bigint NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen > 0),
    event      text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    reverses   bigint,
    event_at   timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT two_accounts CHECK (src <> dst),
    CONSTRAINT key_starts_with_subject CHECK (starts_with(key, subject || ':'))
);
COMMENT ON TABLE ledger.transfer IS 'Money moved from src (debited) to dst (credited). Rows are never changed: mistakes are reversed';
COMMENT ON COLUMN ledger.transfer.key IS 'Idempotency key. It starts with the subject, so one index finds both';
COMMENT ON COLUMN ledger.transfer.xid IS 'The posting transaction: what lies below the oldest running one is settled and can be folded';
CREATE UNIQUE INDEX transfer_key ON ledger.transfer (key);
CREATE UNIQUE INDEX transfer_reversed_once ON ledger.transfer (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX transfer_src ON ledger.transfer (src, id);
CREATE INDEX transfer_dst ON ledger.transfer (dst, id);
CREATE INDEX transfer_xid ON ledger.transfer (xid);

CREATE TABLE ledger.fold_mark (
    the_only  boolean PRIMARY KEY DEFAULT true CHECK (the_only),
    folded_to xid8 NOT NULL,
    folded_at timestamptz
);
COMMENT ON TABLE ledger.fold_mark IS 'Legs of deferred accounts posted by transactions below folded_to are in the account rows';
INSERT INTO ledger.fold_mark (folded_to) VALUES ('0');

-- The exact balance of every account, in one snapshot, however much is folded.
CREATE VIEW ledger.balance AS
SELECT id, code, prefix, book, kind, floor_fen, balance_fen, held_fen, version
FROM ledger.account WHERE kind = 'guarded'
UNION ALL
SELECT a.id, a.code, a.prefix, a.book, a.kind, a.floor_fen, a.balance_fen + coalesce(tail.delta_fen, 0),
       a.held_fen, a.version
FROM ledger.account a
LEFT JOIN (
    SELECT leg.account_id, sum(leg.delta_fen)::bigint AS delta_fen
    FROM ledger.transfer t
    CROSS JOIN LATERAL (VALUES (t.src, -t.amount_fen), (t.dst, t.amount_fen)) AS leg(account_id, delta_fen)
    WHERE t.xid >= (SELECT folded_to FROM ledger.fold_mark)
    GROUP BY leg.account_id
) tail ON tail.account_id = a.id
WHERE a.kind = 'deferred';

-- The door. Roles without grants on the tables can only call the functions; the owner of the tables,
-- whom grants do not bind, is kept from a slip by triggers. Each function opens the door for itself alone.

CREATE FUNCTION ledger.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING
        MESSAGE = format('%s on %I.%I is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME),
        HINT = 'The ledger is written by ledger.post and ledger.fold alone; mistakes are reversed.';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.transfer
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER only_by_posting BEFORE INSERT ON ledger.transfer
    FOR EACH STATEMENT WHEN (current_setting('quanhui.ledger_door', true) IS DISTINCT FROM 'open')
    EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER never_closed BEFORE DELETE OR TRUNCATE ON ledger.account
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER only_by_posting BEFORE INSERT OR UPDATE ON ledger.account
    FOR EACH STATEMENT WHEN (current_setting('quanhui.ledger_door', true) IS DISTINCT FROM 'open')
    EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER never_lost BEFORE DELETE OR TRUNCATE ON ledger.fold_mark
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER only_by_folding BEFORE INSERT OR UPDATE ON ledger.fold_mark
    FOR EACH STATEMENT WHEN (current_setting('quanhui.ledger_door', true) IS DISTINCT FROM 'open')
    EXECUTE FUNCTION ledger.refuse();

CREATE FUNCTION ledger.open_accounts(codes text[], at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    stranger text;
BEGIN
    SELECT w.code INTO stranger FROM unnest(codes) AS w(code)
    WHERE NOT EXISTS (
        SELECT FROM ledger.chart c
        WHERE CASE WHEN c.named_by IS NULL THEN w.code = c.prefix ELSE w.code LIKE c.prefix || ':_%' END);
    IF FOUND THEN
        RAISE foreign_key_violation USING MESSAGE = format('the chart of accounts has no line for %L', stranger);
    END IF;
    INSERT INTO ledger.account (code, prefix, book, kind, floor_fen, opened_at)
    SELECT DISTINCT w.code, c.prefix, c.book, c.kind, c.floor_fen, at
    FROM unnest(codes) AS w(code)
    JOIN ledger.chart c
        ON CASE WHEN c.named_by IS NULL THEN w.code = c.prefix ELSE w.code LIKE c.prefix || ':_%' END
    WHERE NOT EXISTS (SELECT FROM ledger.account a WHERE a.code = w.code)
    ORDER BY w.code
    ON CONFLICT (code) DO NOTHING;
END $$;
COMMENT ON FUNCTION ledger.open_accounts IS 'Open the accounts among these codes that do not exist, as the chart says';

-- What each transfer asked for is: posted (its key is new), duplicate (the key came before with the same
-- content) or key_conflict (with another). Before means in the ledger or earlier in the batch. The instants
-- are no content: a retry happens later.
CREATE FUNCTION ledger.judge_keys(
    keys text[], srcs bigint[], dsts bigint[], amounts bigint[], events text[], subjects text[], reversed bigint[]
) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT CASE WHEN j.n = j.first_n THEN 'posted' WHEN j.content = j.first_content THEN 'duplicate'
                    ELSE 'key_conflict' END
        FROM (
            SELECT b.n, b.content, first_value(b.n) OVER of_key AS first_n, first_value(b.content) OVER of_key AS first_content
            FROM (
                SELECT t.key, 0 AS n, ROW(t.src, t.dst, t.amount_fen, t.event, t.subject, t.reverses) AS content
                FROM ledger.transfer t WHERE t.key = ANY(keys)
                UNION ALL
                SELECT w.key, w.n, ROW(w.src, w.dst, w.amount_fen, w.event COLLATE "C", w.subject COLLATE "C", w.reverses)
                FROM unnest(keys, srcs, dsts, amounts, events, subjects, reversed)
                     WITH ORDINALITY AS w(key, src, dst, amount_fen, event, subject, reverses, n)
            ) b
            WINDOW of_key AS (PARTITION BY b.key ORDER BY b.n)
        ) j
        WHERE j.n > 0
        ORDER BY j.n);
END $$;

CREATE FUNCTION ledger.post(
    keys text[], src_codes text[], dst_codes text[], amounts bigint[], events text[], subjects text[],
    reversed bigint[], event_ats timestamptz[], at timestamptz, OUT statuses text[], OUT short text[]
) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' SET enable_seqscan = off AS $$
DECLARE
    size int NOT NULL := cardinality(keys);
    ids bigint[];            -- of the sources, then of the destinations
    books text[];            -- likewise
    srcs bigint[];
    dsts bigint[];
    guarded_ids bigint[];
    rooms bigint[];          -- what each guarded account can still give
    moved_ids bigint[];
    deltas bigint[];
    short_ids bigint[];
    written text[];
    seen text[];
BEGIN
    LOOP
        SELECT array_agg(a.id ORDER BY w.n), array_agg(a.book ORDER BY w.n) INTO ids, books
        FROM unnest(src_codes || dst_codes) WITH ORDINALITY AS w(code, n)
        LEFT JOIN ledger.account a ON a.code = w.code;
        EXIT WHEN array_position(ids, NULL) IS NULL;
        PERFORM ledger.open_accounts(src_codes || dst_codes, at);
    END LOOP;
    srcs := ids[:size];
    dsts := ids[size + 1:];
    IF books[:size] <> books[size + 1:] THEN
        RAISE check_violation USING MESSAGE = 'a transfer stays in one book: the two meet in the clearing accounts';
    END IF;

    -- Locks first, keys after: two postings of one key that touch a guarded account then come one after the other.
    SELECT array_agg(l.id), array_agg(l.room) INTO guarded_ids, rooms
    FROM (SELECT a.id, a.balance_fen - a.held_fen - a.floor_fen AS room FROM ledger.account a
          WHERE a.id = ANY(ids) AND a.kind = 'guarded' ORDER BY a.id FOR NO KEY UPDATE) l;

    statuses := ledger.judge_keys(keys, srcs, dsts, amounts, events, subjects, reversed);
    IF 'key_conflict' = ANY(statuses) THEN
        statuses := array_replace(statuses, 'posted', 'withheld');
        RETURN;
    END IF;

    -- The batch is one instant: the guard judges where it ends, not the steps on the way.
    SELECT array_agg(m.id), array_agg(m.delta), array_agg(m.id) FILTER (WHERE m.room + m.delta < 0)
    INTO moved_ids, deltas, short_ids
    FROM (SELECT g.id, g.room, sum(CASE WHEN leg.n <= size THEN -leg.amount ELSE leg.amount END)::bigint AS delta
          FROM unnest(ids, amounts || amounts, statuses || statuses) WITH ORDINALITY AS leg(id, amount, status, n)
          JOIN unnest(guarded_ids, rooms) AS g(id, room) ON g.id = leg.id
          WHERE leg.status = 'posted' GROUP BY g.id, g.room) m;
    IF short_ids IS NOT NULL THEN
        short := ARRAY(SELECT a.code FROM ledger.account a WHERE a.id = ANY(short_ids) ORDER BY a.code);
        statuses := ARRAY(
            SELECT CASE WHEN w.status <> 'posted' THEN w.status WHEN w.src = ANY(short_ids) THEN 'insufficient'
                        ELSE 'withheld' END
            FROM unnest(statuses, srcs) WITH ORDINALITY AS w(status, src, n) ORDER BY w.n);
        RETURN;
    END IF;

    WITH inserted AS (
        INSERT INTO ledger.transfer AS t
            (key, src, dst, amount_fen, event, subject, reverses, event_at, created_at)
        SELECT w.key, w.src, w.dst, w.amount, w.event, w.subject, w.reverses, w.event_at, at
        FROM unnest(keys, srcs, dsts, amounts, events, subjects, reversed, event_ats, statuses)
             AS w(key, src, dst, amount, event, subject, reverses, event_at, status)
        WHERE w.status = 'posted'
        ORDER BY w.key
        ON CONFLICT DO NOTHING
        RETURNING t.key)
    SELECT array_agg(i.key) INTO written FROM inserted i;

    -- Another transaction wrote a key between our look and our insert. No guarded account is in such a
    -- transfer if it is the same as ours, so the balances to change are still right.
    IF coalesce(cardinality(written), 0) < cardinality(array_positions(statuses, 'posted')) THEN
        seen := ledger.judge_keys(keys, srcs, dsts, amounts, events, subjects, reversed);
        IF 'posted' = ANY(seen) THEN
            RAISE unique_violation USING MESSAGE = 'a transfer is reversed at most once';
        ELSIF 'key_conflict' = ANY(seen) THEN
            RAISE serialization_failure USING MESSAGE = 'a key was used at the same time for another transfer';
        END IF;
        statuses := ARRAY(
            SELECT CASE WHEN w.key = ANY(written) THEN w.status ELSE 'duplicate' END
            FROM unnest(statuses, keys) WITH ORDINALITY AS w(status, key, n) ORDER BY w.n);
    END IF;

    IF moved_ids IS NOT NULL THEN
        UPDATE ledger.account a SET balance_fen = a.balance_fen + m.delta, version = a.version + 1
        FROM unnest(moved_ids, deltas) AS m(id, delta) WHERE a.id = m.id;
    END IF;
END $$;
COMMENT ON FUNCTION ledger.post IS
    'Post transfers, all or none. statuses: posted or duplicate each; or, when nothing was written, '
    'key_conflict or insufficient for those at fault and withheld for the rest. short: accounts that lack money';

CREATE FUNCTION ledger.fold(at timestamptz) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' AS $$
DECLARE
    low xid8;
    high xid8;
    folded bigint;
BEGIN
    SELECT m.folded_to INTO low FROM ledger.fold_mark m FOR UPDATE;  -- one folder at a time
    -- Every transaction below the oldest running one has ended, so none can add a leg there any more.
    high := pg_snapshot_xmin(pg_current_snapshot());
    IF high <= low THEN
        RETURN 0;
    END IF;
    UPDATE ledger.account a SET balance_fen = a.balance_fen + s.delta, version = a.version + 1
    FROM (SELECT leg.id, sum(leg.delta)::bigint AS delta
          FROM ledger.transfer t
          CROSS JOIN LATERAL (VALUES (t.src, -t.amount_fen), (t.dst, t.amount_fen)) AS leg(id, delta)
          WHERE t.xid >= low AND t.xid < high GROUP BY leg.id) s
    WHERE a.id = s.id AND a.kind = 'deferred';
    SELECT count(*) INTO folded FROM ledger.transfer t WHERE t.xid >= low AND t.xid < high;
    UPDATE ledger.fold_mark SET folded_to = high, folded_at = at;
    RETURN folded;
END $$;
COMMENT ON FUNCTION ledger.fold IS
    'Add the settled legs of deferred accounts to their rows; returns how many transfers. Transaction ids belong '
    'to this cluster: copies are made physically (base backup, replica), never by dump and restore elsewhere';
