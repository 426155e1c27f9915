-- Merchant settlement: contracts, the statement of each merchant and Shanghai day, disputes, and what was paid.

INSERT INTO base.permission (word) VALUES ('statements.read'), ('statements.confirm'), ('statements.settle');
INSERT INTO base.role_grant (role, permission, scope) VALUES
    ('merchant_operator', 'statements.read', 'merchant'),
    ('merchant_operator', 'statements.confirm', 'merchant'),
    ('partner', 'statements.read', 'merchant'),
    ('finance', 'statements.read', 'all'),
    ('finance', 'statements.settle', 'all'),
    ('compliance', 'statements.read', 'all'),
    ('auditor', 'statements.read', 'all');

INSERT INTO ledger.chart (prefix, book, kind, floor_fen, named_by, meaning_zh, meaning_en) VALUES
    ('merchant_receivable', 'client', 'deferred', NULL, 'merchant', '应收商户款',
     'Due from a merchant for what was taken back after it was paid');

CREATE TABLE redemption.merchant_contract (
    id          text COLLATE "C" PRIMARY KEY,
    merchant_id text COLLATE "C" NOT NULL,
    fee_bps     int NOT NULL CHECK (fee_bps BETWEEN 0 AND 3000),
    valid_from  date NOT NULL,
    valid_to    date CHECK (valid_to > valid_from),
    created_by  text COLLATE "C" NOT NULL,
    created_at  timestamptz NOT NULL,
    UNIQUE (merchant_id, valid_from)
);
COMMENT ON TABLE redemption.merchant_contract IS 'The fee a merchant pays on redemptions, by Shanghai day; without a contract none';
COMMENT ON COLUMN redemption.merchant_contract.valid_to IS 'First day it no longer holds; a later contract ends it too';

CREATE FUNCTION redemption.fee_bps_on(merchant text, day date) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT CASE WHEN c.valid_to IS NULL OR day < c.valid_to THEN c.fee_bps ELSE 0 END
        FROM redemption.merchant_contract c
        WHERE c.merchant_id = merchant AND c.valid_from <= day ORDER BY c.valid_from DESC LIMIT 1), 0)
$$;
COMMENT ON FUNCTION redemption.fee_bps_on IS 'The fee rate of a merchant on a Shanghai day, in basis points';

CREATE FUNCTION redemption.fee_fen(amount_fen bigint, fee_bps int) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (amount_fen * fee_bps + 5000) / 10000
$$;
COMMENT ON FUNCTION redemption.fee_fen IS 'The fee on an amount that is not negative, rounded half up to the fen';

CREATE TABLE redemption.merchant_claim (
    subject     text COLLATE "C" PRIMARY KEY,
    merchant_id text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL CONSTRAINT merchant_claim_kind CHECK (kind IN ('goods', 'campaign')),
    amount_fen  bigint NOT NULL CHECK (amount_fen <> 0),
    note        text,
    created_by  text COLLATE "C",
    happened_at timestamptz NOT NULL,
    CONSTRAINT campaigns_are_owed CHECK ((kind = 'campaign') = (amount_fen < 0))
);
COMMENT ON TABLE redemption.merchant_claim IS 'What a merchant is owed, or owes if negative, for something else than a redemption';
COMMENT ON COLUMN redemption.merchant_claim.subject IS 'What the postings in the ledger are about';
CREATE INDEX merchant_claim_time ON redemption.merchant_claim (happened_at);

CREATE TABLE redemption.statement_run (
    day         date PRIMARY KEY,
    statements  int NOT NULL,
    lines       bigint NOT NULL,
    finished_at timestamptz NOT NULL
);
COMMENT ON TABLE redemption.statement_run IS 'Shanghai days whose statements are drawn: each day once, in order';

CREATE TABLE redemption.statement (
    id                text COLLATE "C" PRIMARY KEY,
    merchant_id       text COLLATE "C" NOT NULL,
    day               date NOT NULL,
    state             text COLLATE "C" NOT NULL CONSTRAINT statement_state CHECK (state IN (
                          'drawn', 'confirmed', 'disputed', 'corrected', 'due', 'paid', 'carried')),
    carried_gross_fen bigint NOT NULL,
    carried_fee_fen   bigint NOT NULL,
    lines             int NOT NULL,
    lines_gross_fen   bigint NOT NULL,
    lines_fee_fen     bigint NOT NULL,
    gross_fen         bigint NOT NULL GENERATED ALWAYS AS (carried_gross_fen + lines_gross_fen) STORED,
    fee_fen           bigint NOT NULL GENERATED ALWAYS AS (carried_fee_fen + lines_fee_fen) STORED,
    net_fen           bigint NOT NULL GENERATED ALWAYS AS (
                          carried_gross_fen + lines_gross_fen - carried_fee_fen - lines_fee_fen) STORED,
    carried_to        text COLLATE "C" REFERENCES redemption.statement,
    drawn_at          timestamptz NOT NULL,
    confirmed_at      timestamptz,
    confirmed_by      text COLLATE "C",
    due_at            timestamptz,
    paid_at           timestamptz,
    CONSTRAINT one_statement_a_day UNIQUE (merchant_id, day),
    CONSTRAINT carried_without_payment CHECK (
        state NOT IN ('due', 'paid') OR carried_gross_fen + lines_gross_fen - carried_fee_fen - lines_fee_fen > 0),
    CONSTRAINT only_the_carried_are_carried CHECK (carried_to IS NULL OR state = 'carried'),
    CONSTRAINT paid_has_time CHECK ((state = 'paid') = (paid_at IS NOT NULL))
);
COMMENT ON TABLE redemption.statement IS '商户结算单: what a merchant is owed for one Shanghai day';
COMMENT ON COLUMN redemption.statement.carried_gross_fen IS 'Brought forward from a statement that came to nothing or less';
COMMENT ON COLUMN redemption.statement.confirmed_by IS 'Who agreed for the merchant; null when time agreed';
COMMENT ON COLUMN redemption.statement.carried_to IS 'The later statement that brought it forward';
CREATE INDEX statement_to_carry ON redemption.statement (merchant_id) WHERE state = 'carried' AND carried_to IS NULL;
CREATE INDEX statement_open ON redemption.statement (state, drawn_at) WHERE state NOT IN ('paid', 'carried');

CREATE TABLE redemption.statement_line (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant_id   text COLLATE "C" NOT NULL,
    day           date NOT NULL,
    kind          text COLLATE "C" NOT NULL CONSTRAINT statement_line_kind CHECK (kind IN (
                      'redemption', 'reversal', 'goods', 'campaign', 'correction')),
    subject       text COLLATE "C" NOT NULL,
    redemption_id text COLLATE "C",
    store_id      text COLLATE "C",
    amount_fen    bigint NOT NULL CHECK (amount_fen <> 0),
    fee_bps       int NOT NULL,
    fee_fen       bigint NOT NULL,
    happened_at   timestamptz NOT NULL,
    CONSTRAINT a_subject_once UNIQUE (subject),
    CONSTRAINT of_a_statement FOREIGN KEY (merchant_id, day)
        REFERENCES redemption.statement (merchant_id, day) DEFERRABLE INITIALLY DEFERRED
);
COMMENT ON TABLE redemption.statement_line IS 'What a statement consists of; frozen when it is drawn, corrected by further lines';
COMMENT ON COLUMN redemption.statement_line.subject IS 'What its postings in the ledger are about: a redemption, reversal, payout, charge or dispute';
CREATE INDEX statement_line_of ON redemption.statement_line (merchant_id, day, id);

-- What the run looks for: by time, whatever became of it since.
CREATE INDEX redemption_captured ON redemption.redemption (captured_at) WHERE captured_at IS NOT NULL;
CREATE INDEX reversal_done ON redemption.reversal (done_at) WHERE state = 'done';

CREATE TABLE redemption.statement_dispute (
    id             text COLLATE "C" PRIMARY KEY,
    statement_id   text COLLATE "C" NOT NULL REFERENCES redemption.statement,
    line_id        bigint NOT NULL REFERENCES redemption.statement_line,
    state          text COLLATE "C" NOT NULL CONSTRAINT statement_dispute_state CHECK (state IN (
                       'open', 'answered', 'settled')),
    reason         text NOT NULL,
    raised_by      text COLLATE "C" NOT NULL,
    raised_at      timestamptz NOT NULL,
    correction_fen bigint,
    answer         text,
    answered_by    text COLLATE "C",
    answered_at    timestamptz,
    settled_by     text COLLATE "C",
    settled_at     timestamptz,
    CONSTRAINT answer_is_whole CHECK (
        (state = 'open') = (correction_fen IS NULL) AND (state = 'open') = (answer IS NULL)
        AND (state = 'open') = (answered_by IS NULL)),
    CONSTRAINT second_pair_of_eyes CHECK (settled_by <> answered_by AND (state = 'settled') = (settled_by IS NOT NULL))
);
COMMENT ON TABLE redemption.statement_dispute IS 'A line that its merchant does not accept, and what finance answered';
COMMENT ON COLUMN redemption.statement_dispute.correction_fen IS 'What is added to the statement; 0: the line is right';
CREATE INDEX statement_dispute_of ON redemption.statement_dispute (statement_id, id);
CREATE UNIQUE INDEX one_live_dispute ON redemption.statement_dispute (line_id) WHERE state <> 'settled';

CREATE TABLE redemption.merchant_transfer (
    id           text COLLATE "C" PRIMARY KEY,
    statement_id text COLLATE "C" NOT NULL REFERENCES redemption.statement,
    institution  text COLLATE "C" NOT NULL,
    reference    text COLLATE "C" NOT NULL,
    amount_fen   bigint NOT NULL CHECK (amount_fen > 0),
    state        text COLLATE "C" NOT NULL CONSTRAINT merchant_transfer_state CHECK (state IN (
                     'recorded', 'confirmed', 'refused')),
    recorded_by  text COLLATE "C" NOT NULL,
    recorded_at  timestamptz NOT NULL,
    checked_by   text COLLATE "C",
    checked_at   timestamptz,
    note         text,
    CONSTRAINT maker_and_checker CHECK (
        checked_by <> recorded_by AND (state = 'recorded') = (checked_by IS NULL))
);
COMMENT ON TABLE redemption.merchant_transfer IS 'Bank transfers to merchants: recorded by one person, confirmed by another';
COMMENT ON COLUMN redemption.merchant_transfer.reference IS 'The number under which the bank knows it';
CREATE UNIQUE INDEX one_live_merchant_transfer ON redemption.merchant_transfer (statement_id) WHERE state <> 'refused';
CREATE UNIQUE INDEX a_bank_reference_once ON redemption.merchant_transfer (institution, reference) WHERE state <> 'refused';

-- Lines are added while their statement is drawn or disputed, and never change.
CREATE FUNCTION redemption.refuse_line_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'lines of statements are only ever added'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'lines_are_frozen';
END $$;
CREATE TRIGGER lines_are_frozen BEFORE UPDATE OR DELETE OR TRUNCATE ON redemption.statement_line
    FOR EACH STATEMENT EXECUTE FUNCTION redemption.refuse_line_change();

CREATE FUNCTION redemption.guard_new_lines() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added a JOIN redemption.statement s ON s.merchant_id = a.merchant_id AND s.day = a.day
               WHERE s.state <> 'disputed' OR a.kind <> 'correction') THEN
        RAISE EXCEPTION 'the lines of a drawn statement are frozen'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'lines_are_frozen';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER lines_come_before_the_statement AFTER INSERT ON redemption.statement_line
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION redemption.guard_new_lines();

CREATE FUNCTION redemption.check_statement() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    SELECT count(*) AS n, coalesce(sum(l.amount_fen), 0) AS gross, coalesce(sum(l.fee_fen), 0) AS fee INTO found
    FROM redemption.statement_line l WHERE l.merchant_id = NEW.merchant_id AND l.day = NEW.day;
    IF (found.n, found.gross, found.fee) IS DISTINCT FROM
       (NEW.lines::bigint, NEW.lines_gross_fen::numeric, NEW.lines_fee_fen::numeric) THEN
        RAISE EXCEPTION 'statement % is not the sum of its lines', NEW.id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'statement_is_its_lines';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER statement_is_its_lines BEFORE INSERT OR UPDATE ON redemption.statement
    FOR EACH ROW EXECUTE FUNCTION redemption.check_statement();

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('redemption', 'settled', 'reversed'),
    ('statement', 'drawn', 'confirmed'),
    ('statement', 'drawn', 'disputed'),
    ('statement', 'disputed', 'confirmed'),
    ('statement', 'disputed', 'corrected'),
    ('statement', 'confirmed', 'due'),
    ('statement', 'confirmed', 'carried'),
    ('statement', 'corrected', 'due'),
    ('statement', 'corrected', 'carried'),
    ('statement', 'due', 'paid'),
    ('statement_dispute', 'open', 'answered'),
    ('statement_dispute', 'answered', 'open'),
    ('statement_dispute', 'answered', 'settled'),
    ('merchant_transfer', 'recorded', 'confirmed'),
    ('merchant_transfer', 'recorded', 'refused');

CREATE TRIGGER statement_moves BEFORE UPDATE ON redemption.statement FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('statement', 'state');
CREATE TRIGGER statement_dispute_moves BEFORE UPDATE ON redemption.statement_dispute FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('statement_dispute', 'state');
CREATE TRIGGER merchant_transfer_moves BEFORE UPDATE ON redemption.merchant_transfer FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('merchant_transfer', 'state');

-- No money of others: every order says whose money it moves, and the platform takes out only what is its own.
-- The reasoning stands in docs/adr/0011-no-money-of-others.md.

ALTER TABLE buyback.buyback_order
    ADD COLUMN dealing text COLLATE "C" NOT NULL DEFAULT 'principal'
        CONSTRAINT buyback_order_dealing CHECK (dealing IN ('principal', 'consignment')),
    ADD COLUMN custodian_ref text COLLATE "C",
    ADD CONSTRAINT consignment_has_custodian CHECK ((dealing = 'consignment') = (custodian_ref IS NOT NULL));
COMMENT ON COLUMN buyback.buyback_order.dealing IS 'principal: own money, the platform owns the voucher; consignment: an institution splits the money';
COMMENT ON COLUMN buyback.buyback_order.custodian_ref IS 'Of a consignment: the number under which the institution holds and splits the money';

ALTER TABLE redistribution.purchase
    ADD COLUMN dealing text COLLATE "C" NOT NULL DEFAULT 'principal'
        CONSTRAINT purchase_dealing CHECK (dealing IN ('principal', 'consignment')),
    ADD COLUMN custodian_ref text COLLATE "C",
    ADD CONSTRAINT consignment_has_custodian CHECK ((dealing = 'consignment') = (custodian_ref IS NOT NULL));
COMMENT ON COLUMN redistribution.purchase.dealing IS 'principal: own money, the platform owns the voucher; consignment: an institution splits the money';
COMMENT ON COLUMN redistribution.purchase.custodian_ref IS 'Of a consignment: the number under which the institution holds and splits the money';

CREATE FUNCTION ledger.guard_own_funds() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  bigint := (SELECT a.id FROM ledger.account a WHERE a.code = 'own_funds');
    ours bigint;
BEGIN
    IF own IS NULL OR NOT EXISTS (SELECT FROM posted p WHERE p.src = own) THEN
        RETURN NULL;
    END IF;
    -- One at a time: two that each take what is left would together take more.
    PERFORM pg_advisory_xact_lock(hashtext('ledger.own_funds'));
    SELECT b.balance_fen INTO ours FROM ledger.balance b WHERE b.code = 'client:clearing';
    IF coalesce(ours, 0) < 0 THEN
        RAISE EXCEPTION 'own funds would take % fen that belong to others', -ours
            USING ERRCODE = 'check_violation', CONSTRAINT = 'no_money_of_others';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ledger.guard_own_funds IS
    'Statement trigger: money comes into own funds only while the client book holds as much of ours';
CREATE TRIGGER no_money_of_others AFTER INSERT ON ledger.transfer REFERENCING NEW TABLE AS posted
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.guard_own_funds();

-- Stored value: the issuer's single-purpose card, up to a limit that is policy.

CREATE TABLE compliance.stored_value_limit (
    holding        text COLLATE "C" NOT NULL CONSTRAINT stored_value_limit_holding CHECK (holding IN ('registered', 'bearer')),
    effective_from date NOT NULL,
    limit_fen      bigint NOT NULL CHECK (limit_fen >= 0),
    clause_zh      text NOT NULL,
    clause_en      text NOT NULL,
    PRIMARY KEY (holding, effective_from)
);
COMMENT ON TABLE compliance.stored_value_limit IS 'How much stored value one holder may have, from a Shanghai day on';
COMMENT ON COLUMN compliance.stored_value_limit.holding IS 'registered: the holder''s name is verified; bearer: it is not';
INSERT INTO compliance.stored_value_limit (holding, effective_from, limit_fen, clause_zh, clause_en) VALUES
    ('registered', '2012-11-01', 500000, '单用途商业预付卡管理办法：记名卡（含充值后）不超过 5,000 元',
     'Single-purpose card rules: registered cards up to 5,000 yuan, also after a top-up'),
    ('bearer', '2012-11-01', 100000, '单用途商业预付卡管理办法：不记名卡（含充值后）不超过 1,000 元',
     'Single-purpose card rules: bearer cards up to 1,000 yuan, also after a top-up');

INSERT INTO settlement.reason (code, handling, zh, en) VALUES
    ('stored_value_limit', NULL, '储值余额将超过单用途卡限额', 'Stored value would exceed the limit for one holder');
