-- Redemption: vouchers spent at tills, what was given back, and who was refused.

CREATE SCHEMA redemption;

CREATE TABLE redemption.redemption (
    id             text COLLATE "C" PRIMARY KEY,
    voucher_id     text COLLATE "C" NOT NULL,
    product_id     text COLLATE "C" NOT NULL,
    issuer_id      text COLLATE "C" NOT NULL,
    own_issue      boolean NOT NULL,
    holder_id      text COLLATE "C",
    store_id       text COLLATE "C" NOT NULL,
    merchant_id    text COLLATE "C" NOT NULL,
    operator_id    text COLLATE "C" NOT NULL,
    request_key    text COLLATE "C" NOT NULL,
    till_reference text,
    state          text COLLATE "C" NOT NULL CONSTRAINT redemption_state CHECK (state IN (
                       'authorised', 'captured', 'settled', 'voided', 'lapsed', 'reversed')),
    authorised_fen bigint NOT NULL CHECK (authorised_fen > 0),
    captured_fen   bigint NOT NULL DEFAULT 0,
    reversed_fen   bigint NOT NULL DEFAULT 0,
    awaits_issuer  boolean NOT NULL DEFAULT false,
    asked_at       timestamptz,
    refusal        text COLLATE "C",
    expires_at     timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    captured_at    timestamptz,
    settled_at     timestamptz,
    CONSTRAINT captured_within_authorised CHECK (captured_fen BETWEEN 0 AND authorised_fen),
    CONSTRAINT reversed_within_captured CHECK (reversed_fen BETWEEN 0 AND captured_fen),
    CONSTRAINT captured_has_amount CHECK (
        (state IN ('captured', 'settled', 'reversed')) = (captured_fen > 0 AND captured_at IS NOT NULL)),
    CONSTRAINT reversed_whole CHECK ((state = 'reversed') = (captured_fen > 0 AND reversed_fen = captured_fen)),
    CONSTRAINT awaits_while_authorised CHECK (NOT awaits_issuer OR (state = 'authorised' AND NOT own_issue))
) WITH (fillfactor = 85);
COMMENT ON TABLE redemption.redemption IS '核销: an amount of one voucher spent in one store';
COMMENT ON COLUMN redemption.redemption.holder_id IS 'Holder of record when it was spent';
COMMENT ON COLUMN redemption.redemption.request_key IS 'The Idempotency-Key of the till: a retry finds what it began';
COMMENT ON COLUMN redemption.redemption.awaits_issuer IS 'An outside issuer is being asked, and what it did is not known yet';
COMMENT ON COLUMN redemption.redemption.refusal IS 'Why it was voided; for us, not for the public';
CREATE UNIQUE INDEX one_redemption_a_request ON redemption.redemption (operator_id, request_key);
CREATE UNIQUE INDEX one_redemption_a_till_reference ON redemption.redemption (store_id, till_reference)
    WHERE till_reference IS NOT NULL AND state NOT IN ('voided', 'lapsed');
CREATE INDEX redemption_store ON redemption.redemption (store_id, id);
CREATE INDEX redemption_merchant ON redemption.redemption (merchant_id, id);
CREATE INDEX redemption_holder ON redemption.redemption (holder_id, id) WHERE holder_id IS NOT NULL;
CREATE INDEX redemption_open ON redemption.redemption (expires_at) WHERE state = 'authorised';

CREATE TABLE redemption.reversal (
    id            text COLLATE "C" PRIMARY KEY,
    redemption_id text COLLATE "C" NOT NULL REFERENCES redemption.redemption,
    amount_fen    bigint NOT NULL CHECK (amount_fen > 0),
    reason        text NOT NULL,
    operator_id   text COLLATE "C" NOT NULL,
    state         text COLLATE "C" NOT NULL CONSTRAINT reversal_state CHECK (state IN ('asked', 'done', 'refused')),
    refusal       text COLLATE "C",
    created_at    timestamptz NOT NULL,
    done_at       timestamptz
);
COMMENT ON TABLE redemption.reversal IS '冲正: a redemption taken back, whole or in part, to the same voucher';
CREATE INDEX reversal_redemption ON redemption.reversal (redemption_id, id);
CREATE UNIQUE INDEX one_asked_reversal ON redemption.reversal (redemption_id) WHERE state = 'asked';

CREATE TABLE redemption.refusal (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason      text COLLATE "C" NOT NULL,
    fingerprint bytea,
    store_id    text COLLATE "C" NOT NULL,
    operator_id text COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL
);
COMMENT ON TABLE redemption.refusal IS 'Codes that were not accepted, and why: kept inside, and what the limits on trying count';
COMMENT ON COLUMN redemption.refusal.fingerprint IS 'Of the code, where the text read as one';
CREATE INDEX refusal_operator ON redemption.refusal (operator_id, at);
CREATE INDEX refusal_store ON redemption.refusal (store_id, at);

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('redemption', 'authorised', 'captured'),
    ('redemption', 'authorised', 'voided'),
    ('redemption', 'authorised', 'lapsed'),
    ('redemption', 'captured', 'settled'),
    ('redemption', 'captured', 'reversed'),
    ('reversal', 'asked', 'done'),
    ('reversal', 'asked', 'refused');

CREATE TRIGGER redemption_moves BEFORE UPDATE ON redemption.redemption FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('redemption', 'state');
CREATE TRIGGER reversal_moves BEFORE UPDATE ON redemption.reversal FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('reversal', 'state');
