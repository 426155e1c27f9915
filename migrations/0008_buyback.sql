-- Buyback 回收: what sellers offer, what we quote, what becomes ours.

CREATE SCHEMA buyback;

CREATE TABLE buyback.buyback_order (
    id          text COLLATE "C" PRIMARY KEY,
    seller_id   text COLLATE "C" NOT NULL,
    store_id    text COLLATE "C",
    device_id   text COLLATE "C",
    state       text COLLATE "C" NOT NULL CHECK (state IN (
        'submitted', 'screening', 'manual_review', 'quoted', 'accepted', 'title_transferred', 'settling',
        'settled', 'closed', 'rejected', 'appealed', 'quote_expired', 'declined', 'cancelled',
        'clawback_open', 'recovered', 'written_off')),
    long_quote  boolean NOT NULL,
    hold_reason text COLLATE "C",
    decision_id text COLLATE "C" NOT NULL,
    method      text COLLATE "C" CHECK (method IN ('cash', 'stored_value', 'goods')),
    payee_id    text COLLATE "C",
    goods_store_id text COLLATE "C",
    reason      text COLLATE "C",
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
) WITH (fillfactor = 80);
COMMENT ON TABLE buyback.buyback_order IS 'One deal with a seller 回收单, from submission on';
CREATE INDEX order_seller ON buyback.buyback_order (seller_id, id);
CREATE INDEX order_open ON buyback.buyback_order (state, updated_at)
    WHERE state IN ('manual_review', 'quoted', 'accepted', 'title_transferred', 'appealed', 'settled');

CREATE TABLE buyback.line (
    order_id    text COLLATE "C" NOT NULL REFERENCES buyback.buyback_order,
    number      int NOT NULL CHECK (number BETWEEN 1 AND 100),
    fingerprint bytea,
    voucher_id  text COLLATE "C",
    product_id  text COLLATE "C",
    tail        text NOT NULL,
    refusal     text COLLATE "C" CHECK (refusal IN (
        'malformed', 'product_mismatch', 'product_unclear', 'duplicate', 'unknown', 'dead_code', 'not_holder',
        'claimed', 'not_clear', 'locked_at_issuer', 'expired', 'empty', 'not_bought', 'too_near_expiry')),
    face_fen    bigint NOT NULL DEFAULT 0,
    balance_fen bigint NOT NULL DEFAULT 0,
    gross_fen   bigint NOT NULL DEFAULT 0,
    fee_fen     bigint NOT NULL DEFAULT 0,
    net_fen     bigint NOT NULL DEFAULT 0,
    expires_at  timestamptz,
    reasons     jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (order_id, number),
    CONSTRAINT fee_and_net_make_gross CHECK (fee_fen + net_fen = gross_fen AND fee_fen >= 0 AND net_fen >= 0),
    CONSTRAINT gross_within_balance CHECK (gross_fen <= balance_fen AND balance_fen <= face_fen)
);
COMMENT ON TABLE buyback.line IS 'One voucher of an order: what it brings, or why it was refused (kept inside)';

CREATE TABLE buyback.quote (
    id             text COLLATE "C" PRIMARY KEY,
    order_id       text COLLATE "C" NOT NULL REFERENCES buyback.buyback_order,
    state          text COLLATE "C" NOT NULL CHECK (state IN ('issued', 'accepted', 'expired', 'declined')),
    gross_fen      bigint NOT NULL CHECK (gross_fen > 0),
    fee_fen        bigint NOT NULL CHECK (fee_fen >= 0),
    net_fen        bigint NOT NULL CHECK (net_fen > 0),
    methods        text[] NOT NULL,
    model_version  text NOT NULL,
    policy_version text NOT NULL,
    inputs_hash    text NOT NULL,
    issued_at      timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    decided_at     timestamptz,
    CONSTRAINT fee_and_net_make_gross CHECK (fee_fen + net_fen = gross_fen)
) WITH (fillfactor = 85);
COMMENT ON TABLE buyback.quote IS 'What we offer for an order 报价: immutable but for its state';
CREATE UNIQUE INDEX one_open_quote ON buyback.quote (order_id) WHERE state = 'issued';
CREATE INDEX quote_order ON buyback.quote (order_id);
CREATE INDEX quote_due ON buyback.quote (expires_at) WHERE state = 'issued';

CREATE FUNCTION buyback.keep_quote() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (to_jsonb(OLD) - 'state' - 'decided_at') <> (to_jsonb(NEW) - 'state' - 'decided_at') THEN
        RAISE EXCEPTION 'a quote is immutable' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER immutable BEFORE UPDATE ON buyback.quote FOR EACH ROW EXECUTE FUNCTION buyback.keep_quote();

CREATE TABLE buyback.appeal (
    id         text COLLATE "C" PRIMARY KEY,
    order_id   text COLLATE "C" NOT NULL REFERENCES buyback.buyback_order,
    words      text NOT NULL CHECK (length(words) BETWEEN 1 AND 1000),
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE buyback.appeal IS 'What a seller says against a rejection 申诉';
CREATE INDEX appeal_order ON buyback.appeal (order_id);

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('buyback_order', 'submitted', 'screening'),
    ('buyback_order', 'screening', 'manual_review'),
    ('buyback_order', 'screening', 'quoted'),
    ('buyback_order', 'screening', 'rejected'),
    ('buyback_order', 'manual_review', 'quoted'),
    ('buyback_order', 'manual_review', 'rejected'),
    ('buyback_order', 'rejected', 'appealed'),
    ('buyback_order', 'appealed', 'quoted'),
    ('buyback_order', 'appealed', 'rejected'),
    ('buyback_order', 'quoted', 'accepted'),
    ('buyback_order', 'quoted', 'settling'),
    ('buyback_order', 'quoted', 'quote_expired'),
    ('buyback_order', 'quoted', 'declined'),
    ('buyback_order', 'accepted', 'title_transferred'),
    ('buyback_order', 'accepted', 'cancelled'),
    ('buyback_order', 'title_transferred', 'settling'),
    ('buyback_order', 'settling', 'settled'),
    ('buyback_order', 'settled', 'settling'),
    ('buyback_order', 'settled', 'closed'),
    ('buyback_order', 'settled', 'clawback_open'),
    ('buyback_order', 'clawback_open', 'recovered'),
    ('buyback_order', 'clawback_open', 'written_off'),
    ('quote', 'issued', 'accepted'),
    ('quote', 'issued', 'expired'),
    ('quote', 'issued', 'declined');

CREATE TRIGGER order_moves BEFORE UPDATE ON buyback.buyback_order FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('buyback_order', 'state');
CREATE TRIGGER quote_moves BEFORE UPDATE ON buyback.quote FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('quote', 'state');
