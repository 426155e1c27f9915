-- The ledger made whole: money set aside, balances of the past, periods that close, and a door by grants.

-- Holds ---------------------------------------------------------------------------------------------------
-- Money set aside on a guarded account: its owner still has it and cannot spend it. It ends by being captured
-- (paid onwards by transfers from that account) or released. Parts may be captured one after another.

ALTER TABLE ledger.account ADD CONSTRAINT held_where_guarded CHECK (held_fen = 0 OR kind = 'guarded');

CREATE TABLE ledger.hold (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key          text COLLATE "C" NOT NULL UNIQUE,
    account      bigint NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    amount_fen   bigint NOT NULL CHECK (amount_fen > 0),
    captured_fen bigint NOT NULL DEFAULT 0 CHECK (captured_fen >= 0),
    released_fen bigint NOT NULL DEFAULT 0 CHECK (released_fen >= 0),
    state        text COLLATE "C" NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'captured', 'released')),
    created_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    CONSTRAINT key_starts_with_subject CHECK (starts_with(key, subject || ':')),
    CONSTRAINT not_more_than_held CHECK (captured_fen + released_fen <= amount_fen),
    CONSTRAINT held_while_some_is_left CHECK ((state = 'held') = (captured_fen + released_fen < amount_fen)),
    CONSTRAINT released_if_some_was CHECK ((state = 'released') = (released_fen > 0)),
    CONSTRAINT ended_when_over CHECK ((state = 'held') = (ended_at IS NULL))
);
COMMENT ON TABLE ledger.hold IS 'Money set aside on a guarded account: account.held_fen is the sum of what is left of its holds';
COMMENT ON COLUMN ledger.hold.key IS 'Idempotency key; it starts with the subject';
COMMENT ON COLUMN ledger.hold.captured_fen IS 'Paid onwards by the transfers in ledger.capture';
CREATE INDEX hold_account ON ledger.hold (account, id) WHERE state = 'held';

CREATE TABLE ledger.capture (
    transfer_key text COLLATE "C" PRIMARY KEY,
    hold_id      bigint NOT NULL REFERENCES ledger.hold,
    amount_fen   bigint NOT NULL CHECK (amount_fen > 0)
);
COMMENT ON TABLE ledger.capture IS 'Which transfer paid out of which hold';
CREATE INDEX capture_hold ON ledger.capture (hold_id);

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('hold', 'held', 'captured'), ('hold', 'held', 'released');
CREATE TRIGGER guard_state BEFORE UPDATE ON ledger.hold
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION base.guard_move('hold', 'state');

CREATE TRIGGER never_forgotten BEFORE DELETE OR TRUNCATE ON ledger.hold
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER only_by_holding BEFORE INSERT OR UPDATE ON ledger.hold
    FOR EACH STATEMENT WHEN (current_setting('quanhui.ledger_door', true) IS DISTINCT FROM 'open')
    EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.capture
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER only_by_capturing BEFORE INSERT ON ledger.capture
    FOR EACH STATEMENT WHEN (current_setting('quanhui.ledger_door', true) IS DISTINCT FROM 'open')
    EXECUTE FUNCTION ledger.refuse();

CREATE FUNCTION ledger.hold(
    keys text[], codes text[], amounts bigint[], subjects text[], at timestamptz, OUT statuses text[], OUT short text[]
) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' SET enable_seqscan = off AS $$
DECLARE
    ids bigint[];
    written int;
BEGIN
    PERFORM ledger.open_accounts(codes, at);
    ids := ARRAY(SELECT a.id FROM unnest(codes) WITH ORDINALITY AS w(code, n)
                 JOIN ledger.account a ON a.code = w.code ORDER BY w.n);
    -- As in ledger.post, accounts by id and then keys: the same key twice at once is decided under the lock.
    PERFORM FROM ledger.account a WHERE a.id = ANY(ids) ORDER BY a.id FOR NO KEY UPDATE;
    statuses := ARRAY(
        SELECT CASE WHEN j.n = j.first_n THEN 'held' WHEN j.content = j.first_content THEN 'duplicate'
                    ELSE 'key_conflict' END
        FROM (SELECT b.n, b.content, first_value(b.n) OVER of_key AS first_n, first_value(b.content) OVER of_key AS first_content
              FROM (SELECT h.key, 0 AS n, ROW(h.account, h.amount_fen, h.subject) AS content
                    FROM ledger.hold h WHERE h.key = ANY(keys)
                    UNION ALL
                    SELECT w.key, w.n, ROW(w.id, w.amount, w.subject COLLATE "C")
                    FROM unnest(keys, ids, amounts, subjects) WITH ORDINALITY AS w(key, id, amount, subject, n)) b
              WINDOW of_key AS (PARTITION BY b.key ORDER BY b.n)) j
        WHERE j.n > 0 ORDER BY j.n);
    IF 'key_conflict' = ANY(statuses) THEN
        statuses := array_replace(statuses, 'held', 'withheld');
        RETURN;
    END IF;
    short := ARRAY(
        SELECT a.code FROM ledger.account a
        JOIN (SELECT w.id, sum(w.amount)::bigint AS amount FROM unnest(ids, amounts, statuses) AS w(id, amount, status)
              WHERE w.status = 'held' GROUP BY w.id) m ON m.id = a.id
        WHERE a.balance_fen - a.held_fen - a.floor_fen < m.amount ORDER BY a.code);
    IF cardinality(short) > 0 THEN
        statuses := ARRAY(
            SELECT CASE WHEN w.status <> 'held' THEN w.status WHEN w.code = ANY(short) THEN 'insufficient'
                        ELSE 'withheld' END
            FROM unnest(statuses, codes) WITH ORDINALITY AS w(status, code, n) ORDER BY w.n);
        RETURN;
    END IF;
    INSERT INTO ledger.hold (key, account, subject, amount_fen, created_at)
    SELECT w.key, w.id, w.subject, w.amount, at
    FROM unnest(keys, ids, amounts, subjects, statuses) AS w(key, id, amount, subject, status)
    WHERE w.status = 'held' ORDER BY w.key
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    -- The same key with the same content waits for our lock, so this was another account's.
    IF written < cardinality(array_positions(statuses, 'held')) THEN
        RAISE serialization_failure USING MESSAGE = 'a key was used at the same time for another hold';
    END IF;
    UPDATE ledger.account a SET held_fen = a.held_fen + m.amount
    FROM (SELECT w.id, sum(w.amount)::bigint AS amount FROM unnest(ids, amounts, statuses) AS w(id, amount, status)
          WHERE w.status = 'held' GROUP BY w.id) m
    WHERE a.id = m.id;
END $$;
COMMENT ON FUNCTION ledger.hold IS
    'Set money aside, all or none. statuses: held or duplicate each; or, when nothing was written, key_conflict or '
    'insufficient for those at fault and withheld for the rest. short: accounts that lack money';

CREATE FUNCTION ledger.release(keys text[], at timestamptz, OUT statuses text[]) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' SET enable_seqscan = off AS $$
BEGIN
    PERFORM FROM ledger.account a
    WHERE a.id IN (SELECT h.account FROM ledger.hold h WHERE h.key = ANY(keys)) ORDER BY a.id FOR NO KEY UPDATE;
    -- All that changes a hold holds the lock of its account, so what is read from here on stays.
    statuses := ARRAY(
        SELECT CASE WHEN h.id IS NULL THEN 'unknown' WHEN h.state = 'held' THEN 'released'
                    WHEN h.state = 'released' THEN 'duplicate' ELSE 'ended' END
        FROM unnest(keys) WITH ORDINALITY AS w(key, n) LEFT JOIN ledger.hold h ON h.key = w.key ORDER BY w.n);
    IF statuses && ARRAY['unknown', 'ended'] THEN
        statuses := array_replace(statuses, 'released', 'withheld');
        RETURN;
    END IF;
    WITH ended AS (
        UPDATE ledger.hold h SET released_fen = h.amount_fen - h.captured_fen, state = 'released', ended_at = at
        WHERE h.key = ANY(keys) AND h.state = 'held' RETURNING h.account, h.released_fen)
    UPDATE ledger.account a SET held_fen = a.held_fen - e.amount
    FROM (SELECT ended.account, sum(ended.released_fen)::bigint AS amount FROM ended GROUP BY ended.account) e
    WHERE a.id = e.account;
END $$;
COMMENT ON FUNCTION ledger.release IS
    'Give back what is left of holds, all or none. statuses: released or duplicate each; or, when nothing was '
    'written, unknown or ended (captured to the last fen) for those at fault and withheld for the rest';

CREATE FUNCTION ledger.capture(
    hold_keys text[], keys text[], dst_codes text[], amounts bigint[], events text[], subjects text[],
    event_ats timestamptz[], at timestamptz, OUT statuses text[]
) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' SET enable_seqscan = off AS $$
DECLARE
    size int NOT NULL := cardinality(keys);
    none bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(keys)]);
    holds bigint[];
    srcs bigint[];
    dsts bigint[];
    src_codes text[];
    posted text[];
BEGIN
    SELECT array_agg(h.id ORDER BY w.n), array_agg(h.account ORDER BY w.n), array_agg(a.code ORDER BY w.n)
    INTO holds, srcs, src_codes
    FROM unnest(hold_keys) WITH ORDINALITY AS w(key, n)
    LEFT JOIN ledger.hold h ON h.key = w.key LEFT JOIN ledger.account a ON a.id = h.account;
    IF array_position(holds, NULL) IS NOT NULL THEN
        statuses := ARRAY(SELECT CASE WHEN id IS NULL THEN 'unknown' ELSE 'withheld' END
                          FROM unnest(holds) WITH ORDINALITY AS w(id, n) ORDER BY n);
        RETURN;
    END IF;
    PERFORM ledger.open_accounts(dst_codes, at);
    dsts := ARRAY(SELECT a.id FROM unnest(dst_codes) WITH ORDINALITY AS w(code, n)
                  JOIN ledger.account a ON a.code = w.code ORDER BY w.n);
    -- Every guarded account of the posting to come, at once and by id: ledger.post finds them locked already.
    PERFORM FROM ledger.account a WHERE a.id = ANY(srcs || dsts) AND a.kind = 'guarded'
    ORDER BY a.id FOR NO KEY UPDATE;
    statuses := ledger.judge_keys(keys, srcs, dsts, amounts, events, subjects, none);
    -- A transfer that did not pay out of this hold is no repetition of what is asked for.
    statuses := ARRAY(
        SELECT CASE WHEN w.status = 'duplicate' AND (w.hold_id <> f.hold_id OR c.hold_id <> w.hold_id
                    OR (f.n = w.n AND c.hold_id IS NULL)) THEN 'key_conflict' ELSE w.status END
        FROM unnest(statuses, keys, holds) WITH ORDINALITY AS w(status, key, hold_id, n)
        CROSS JOIN LATERAL (SELECT o.hold_id, o.n FROM unnest(keys, holds) WITH ORDINALITY AS o(key, hold_id, n)
                            WHERE o.key = w.key ORDER BY o.n LIMIT 1) f
        LEFT JOIN ledger.capture c ON c.transfer_key = w.key
        ORDER BY w.n);
    IF 'key_conflict' = ANY(statuses) THEN
        statuses := array_replace(statuses, 'posted', 'withheld');
        RETURN;
    END IF;
    IF EXISTS (
        SELECT FROM unnest(holds, amounts, statuses) AS w(id, amount, status) JOIN ledger.hold h ON h.id = w.id
        WHERE w.status = 'posted' GROUP BY h.id
        HAVING sum(w.amount) > h.amount_fen - h.captured_fen - h.released_fen) THEN
        statuses := ARRAY(
            SELECT CASE WHEN w.status <> 'posted' THEN w.status
                        WHEN sum(w.amount) FILTER (WHERE w.status = 'posted') OVER (PARTITION BY w.id)
                             > h.amount_fen - h.captured_fen - h.released_fen THEN 'insufficient'
                        ELSE 'withheld' END
            FROM unnest(holds, amounts, statuses) WITH ORDINALITY AS w(id, amount, status, n)
            JOIN ledger.hold h ON h.id = w.id ORDER BY w.n);
        RETURN;
    END IF;
    WITH taken AS (
        SELECT w.id, sum(w.amount)::bigint AS amount FROM unnest(holds, amounts, statuses) AS w(id, amount, status)
        WHERE w.status = 'posted' GROUP BY w.id
    ), ended AS (
        UPDATE ledger.hold h SET captured_fen = h.captured_fen + t.amount,
            state = CASE WHEN h.captured_fen + t.amount = h.amount_fen THEN 'captured' ELSE 'held' END,
            ended_at = CASE WHEN h.captured_fen + t.amount = h.amount_fen THEN at END
        FROM taken t WHERE h.id = t.id RETURNING h.account, t.amount
    )
    UPDATE ledger.account a SET held_fen = a.held_fen - e.amount
    FROM (SELECT ended.account, sum(ended.amount)::bigint AS amount FROM ended GROUP BY ended.account) e
    WHERE a.id = e.account;
    INSERT INTO ledger.capture (transfer_key, hold_id, amount_fen)
    SELECT w.key, w.id, w.amount FROM unnest(keys, holds, amounts, statuses) AS w(key, id, amount, status)
    WHERE w.status = 'posted' ORDER BY w.key;
    posted := (ledger.post(keys, src_codes, dst_codes, amounts, events, subjects, none, event_ats, at)).statuses;
    IF posted <> statuses THEN
        RAISE serialization_failure USING MESSAGE = 'a key was used at the same time for another transfer';
    END IF;
END $$;
COMMENT ON FUNCTION ledger.capture IS
    'Pay out of holds by transfers from their accounts, all or none. statuses: posted or duplicate each; or, when '
    'nothing was written, unknown, key_conflict or insufficient (more than is left) for those at fault and withheld '
    'for the rest';

-- Balances of the past --------------------------------------------------------------------------------------
-- Ranges of blocks, some kilobytes for millions of transfers: recorded instants rise with the rows.
CREATE INDEX transfer_recorded ON ledger.transfer USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX transfer_happened ON ledger.transfer USING brin (event_at) WITH (pages_per_range = 32, autosummarize = on);

-- What is there now, less what was recorded since: the nearer the instant, the less there is to read. One
-- statement is one snapshot, in which a transfer is there with both legs or not at all.
CREATE FUNCTION ledger.balance_at(instant timestamptz)
RETURNS TABLE (id bigint, code text, prefix text, book text, kind text, balance_fen bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.id, b.code, b.prefix, b.book, b.kind, (b.balance_fen - coalesce(later.delta_fen, 0))::bigint
    FROM ledger.balance b
    LEFT JOIN (
        SELECT leg.account_id, sum(leg.delta_fen) AS delta_fen
        FROM ledger.transfer t
        CROSS JOIN LATERAL (VALUES (t.src, -t.amount_fen), (t.dst, t.amount_fen)) AS leg(account_id, delta_fen)
        WHERE t.created_at >= instant
        GROUP BY leg.account_id
    ) later ON later.account_id = b.id
    WHERE EXISTS (SELECT FROM ledger.account a WHERE a.id = b.id AND a.opened_at < instant)
$$;
COMMENT ON FUNCTION ledger.balance_at IS
    'The balance of every account from all that was recorded before an instant, exact in the snapshot of the caller';

-- The first instant that an open transaction might still record something at. A request takes its instant
-- before its transaction begins, and waits a minute at the most.
CREATE FUNCTION ledger.settled_before(at timestamptz) RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN count(*) FILTER (WHERE a.backend_type IS NULL) = 0
                THEN least(at, min(a.xact_start) FILTER (WHERE a.backend_type = 'client backend')) - interval '1 minute' END
    FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
$$;
COMMENT ON FUNCTION ledger.settled_before IS
    'Balances at instants up to this one are final: no open transaction can add to them. Null when the owner of this '
    'function may not see the sessions of others, for which it needs pg_read_all_stats';

-- Periods that close ----------------------------------------------------------------------------------------
-- Closing a day or month of Shanghai closes all before its end too: no transfer may say any more that it happened then.
CREATE TABLE ledger.period (
    id              text COLLATE "C" PRIMARY KEY,
    length          text COLLATE "C" NOT NULL CHECK (length IN ('day', 'month')),
    first_day       date NOT NULL,
    ends_at         timestamptz NOT NULL,
    state           text COLLATE "C" NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'reopening', 'reopened')),
    closed_by       text COLLATE "C" NOT NULL,
    closed_at       timestamptz NOT NULL,
    reopen_asked_by text COLLATE "C",
    reopen_reason   text,
    reopened_by     text COLLATE "C",
    reopened_at     timestamptz,
    CONSTRAINT ends_with_its_last_day CHECK (
        ends_at = (first_day + CASE length WHEN 'day' THEN interval '1 day' ELSE interval '1 month' END)
                  AT TIME ZONE 'Asia/Shanghai'),
    CONSTRAINT a_month_begins_on_its_first CHECK (length = 'day' OR extract(day FROM first_day) = 1),
    CONSTRAINT closed_when_over CHECK (closed_at >= ends_at),
    CONSTRAINT reopening_was_asked_for CHECK (
        state = 'closed' OR (reopen_asked_by IS NOT NULL AND reopen_reason IS NOT NULL)),
    CONSTRAINT reopened_by_a_second_person CHECK (
        (state = 'reopened') = (reopened_by IS NOT NULL AND reopened_at IS NOT NULL AND reopened_by <> reopen_asked_by))
);
COMMENT ON TABLE ledger.period IS 'Days and months that were closed: until the last of them ends, no transfer may have happened';
CREATE UNIQUE INDEX period_closed_once ON ledger.period (ends_at) WHERE state <> 'reopened';
INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('period', 'closed', 'reopening'), ('period', 'reopening', 'reopened'), ('period', 'reopening', 'closed');
CREATE TRIGGER guard_state BEFORE UPDATE ON ledger.period
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION base.guard_move('period', 'state');
CREATE TRIGGER never_forgotten BEFORE DELETE OR TRUNCATE ON ledger.period
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER only_by_closing BEFORE INSERT OR UPDATE ON ledger.period
    FOR EACH STATEMENT WHEN (current_setting('quanhui.ledger_door', true) IS DISTINCT FROM 'open')
    EXECUTE FUNCTION ledger.refuse();

CREATE TABLE ledger.closing_balance (
    period_id   text COLLATE "C" NOT NULL REFERENCES ledger.period,
    account_id  bigint NOT NULL,
    balance_fen bigint NOT NULL,
    PRIMARY KEY (period_id, account_id)
);
COMMENT ON TABLE ledger.closing_balance IS 'What every account held at the end of a closed period: with it the next one opens';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.closing_balance
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER only_by_closing BEFORE INSERT ON ledger.closing_balance
    FOR EACH STATEMENT WHEN (current_setting('quanhui.ledger_door', true) IS DISTINCT FROM 'open')
    EXECUTE FUNCTION ledger.refuse();

-- Two things no posting may do, whoever wrote it: reach into a closed period, and carry a transaction id that
-- was folded already, which happens in a cluster whose ids began anew. Postings share a lock that closing wants
-- for itself, so none that looked before the closing writes after it.
CREATE FUNCTION ledger.guard_transfers() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    closed_to timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(5181300013);
    SELECT max(p.ends_at) INTO closed_to FROM ledger.period p WHERE p.state <> 'reopened';
    IF closed_to IS NOT NULL AND EXISTS (SELECT FROM posted t WHERE t.event_at < closed_to) THEN
        RAISE EXCEPTION USING ERRCODE = 'QH001',
            MESSAGE = format('the books are closed until %s', closed_to),
            DETAIL = to_char(closed_to AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
    END IF;
    IF EXISTS (SELECT FROM posted t, ledger.fold_mark m WHERE t.xid < m.folded_to) THEN
        RAISE EXCEPTION USING ERRCODE = 'QH002',
            MESSAGE = 'this ledger was folded by the transaction ids of another cluster',
            HINT = 'It came here by dump and restore. Restore the cluster physically: a base backup with its WAL.';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER guard AFTER INSERT ON ledger.transfer REFERENCING NEW TABLE AS posted
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.guard_transfers();

CREATE FUNCTION ledger.close_period(
    period_id text, span text, day date, person text, at timestamptz, OUT status text
) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' SET lock_timeout = '2s' AS $$
DECLARE
    over_at timestamptz NOT NULL :=
        (day + CASE span WHEN 'day' THEN interval '1 day' ELSE interval '1 month' END) AT TIME ZONE 'Asia/Shanghai';
BEGIN
    PERFORM pg_advisory_xact_lock(5181300013);
    IF over_at > at THEN
        status := 'not_over';
    ELSIF EXISTS (SELECT FROM ledger.period p WHERE p.ends_at >= over_at AND p.state <> 'reopened') THEN
        status := 'closed_before';
    ELSE
        INSERT INTO ledger.period (id, length, first_day, ends_at, closed_by, closed_at)
        VALUES (period_id, span, day, over_at, person, at);
        INSERT INTO ledger.closing_balance (period_id, account_id, balance_fen)
        SELECT close_period.period_id, b.id, (b.balance_fen - coalesce(later.delta_fen, 0))::bigint
        FROM ledger.balance b
        LEFT JOIN (
            SELECT leg.id, sum(leg.delta) AS delta_fen FROM ledger.transfer t
            CROSS JOIN LATERAL (VALUES (t.src, -t.amount_fen), (t.dst, t.amount_fen)) AS leg(id, delta)
            WHERE t.event_at >= over_at GROUP BY leg.id
        ) later ON later.id = b.id;
        status := 'closed';
    END IF;
END $$;
COMMENT ON FUNCTION ledger.close_period IS
    'Close a day or month with all before it and keep what every account held at its end. closed; or not_over, '
    'closed_before. Raises lock_not_available when postings stay open for two seconds';

CREATE FUNCTION ledger.reopen_period(period_id text, person text, why text, at timestamptz, OUT status text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' AS $$
DECLARE
    found_period ledger.period;
BEGIN
    SELECT * INTO found_period FROM ledger.period p WHERE p.id = period_id FOR UPDATE;
    IF found_period.id IS NULL THEN
        status := 'unknown';
    ELSIF found_period.state = 'reopened' THEN
        status := 'reopened';
    ELSIF EXISTS (SELECT FROM ledger.period p WHERE p.ends_at > found_period.ends_at AND p.state <> 'reopened') THEN
        status := 'not_last';
    ELSIF found_period.state = 'closed' THEN
        UPDATE ledger.period p SET state = 'reopening', reopen_asked_by = person, reopen_reason = why
        WHERE p.id = period_id;
        status := 'asked';
    ELSIF found_period.reopen_asked_by = person THEN
        status := 'asked';
    ELSE
        UPDATE ledger.period p SET state = 'reopened', reopened_by = person, reopened_at = at WHERE p.id = period_id;
        status := 'reopened';
    END IF;
END $$;
COMMENT ON FUNCTION ledger.reopen_period IS
    'Ask for the last closed period to be opened again, or, as another person, open it. asked or reopened; or '
    'unknown, not_last';

-- Folding only where it is safe, and how far behind it is -----------------------------------------------------
ALTER TABLE ledger.fold_mark ADD COLUMN cluster_id bigint;
COMMENT ON COLUMN ledger.fold_mark.cluster_id IS 'The cluster whose transaction ids folded_to counts: its system identifier';
SET LOCAL quanhui.ledger_door = 'open';
UPDATE ledger.fold_mark SET cluster_id = (SELECT system_identifier FROM pg_control_system());
SET LOCAL quanhui.ledger_door = '';
ALTER TABLE ledger.fold_mark ALTER COLUMN cluster_id SET NOT NULL;

CREATE OR REPLACE FUNCTION ledger.fold(at timestamptz) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET quanhui.ledger_door = 'open' AS $$
DECLARE
    mark ledger.fold_mark;
    high xid8;
    folded bigint;
BEGIN
    SELECT * INTO mark FROM ledger.fold_mark m FOR UPDATE;  -- one folder at a time
    IF mark.cluster_id <> (SELECT c.system_identifier FROM pg_control_system() c) THEN
        RAISE EXCEPTION USING ERRCODE = 'QH002',
            MESSAGE = 'this ledger was folded by the transaction ids of another cluster',
            HINT = 'It came here by dump and restore. Restore the cluster physically: a base backup with its WAL.';
    END IF;
    -- Every transaction below the oldest running one has ended, so none can add a leg there any more.
    high := pg_snapshot_xmin(pg_current_snapshot());
    IF high <= mark.folded_to THEN
        RETURN 0;
    END IF;
    UPDATE ledger.account a SET balance_fen = a.balance_fen + s.delta, version = a.version + 1
    FROM (SELECT leg.id, sum(leg.delta)::bigint AS delta
          FROM ledger.transfer t
          CROSS JOIN LATERAL (VALUES (t.src, -t.amount_fen), (t.dst, t.amount_fen)) AS leg(id, delta)
          WHERE t.xid >= mark.folded_to AND t.xid < high GROUP BY leg.id) s
    WHERE a.id = s.id AND a.kind = 'deferred';
    SELECT count(*) INTO folded FROM ledger.transfer t WHERE t.xid >= mark.folded_to AND t.xid < high;
    UPDATE ledger.fold_mark SET folded_to = high, folded_at = at;
    RETURN folded;
END $$;

CREATE FUNCTION ledger.fold_lag(at timestamptz, OUT transfers bigint, OUT oldest_s bigint, OUT same_cluster boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), coalesce(greatest(0, extract(epoch FROM at - min(tail.created_at))), 0)::bigint,
           (SELECT m.cluster_id = c.system_identifier FROM ledger.fold_mark m, pg_control_system() c)
    FROM (SELECT t.created_at FROM ledger.transfer t
          WHERE t.xid >= (SELECT m.folded_to FROM ledger.fold_mark m) ORDER BY t.xid LIMIT 1000000) tail
$$;
COMMENT ON FUNCTION ledger.fold_lag IS
    'How many transfers wait to be folded (counted to a million), for how long the oldest has, and whether the '
    'transaction ids are those of this cluster';

-- Grants ------------------------------------------------------------------------------------------------------
-- The application's role reads the ledger and calls its functions. Elsewhere it writes as it always did.
CREATE FUNCTION base.admit(role name) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    area name;
BEGIN
    FOR area IN SELECT n.nspname FROM pg_namespace n
                WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'ledger', 'public') LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', area, role);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I', area, role);
        EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO %I', area, role);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %I TO %I', area, role);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA public, ledger TO %I', role);
    EXECUTE format('GRANT SELECT ON public.migration TO %I', role);
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM %I', role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO %I', role);
    EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger TO %I', role);
END $$;
COMMENT ON FUNCTION base.admit IS 'Grant a role what the application needs; again after each migration, for what came with it';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'quanhui_app') THEN
        CREATE ROLE quanhui_app NOLOGIN;
    END IF;
    PERFORM base.admit('quanhui_app');
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'create the role quanhui_app as an administrator, then: SELECT base.admit(''quanhui_app'')';
END $$;

INSERT INTO base.permission (word) VALUES ('ledger.close');
INSERT INTO base.role_grant (role, permission, scope) VALUES ('finance', 'ledger.close', 'all');
