-- The registry: every voucher the platform knows, its codes, who holds it, what it is still worth.

CREATE SCHEMA vouchers;

CREATE TABLE vouchers.voucher (
    id             text COLLATE "C" PRIMARY KEY,
    product_id     text COLLATE "C" NOT NULL,
    issuer_id      text COLLATE "C" NOT NULL,
    own_issue      boolean NOT NULL,
    face_fen       bigint NOT NULL CHECK (face_fen > 0),
    verified_fen   bigint NOT NULL,
    authorised_fen bigint NOT NULL DEFAULT 0,
    captured_fen   bigint NOT NULL DEFAULT 0,
    verified_at    timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    custody        text COLLATE "C" NOT NULL
        CHECK (custody IN ('seller_held', 'claimed', 'platform_held', 'reserved', 'assigned', 'returned')),
    value          text COLLATE "C" NOT NULL
        CHECK (value IN ('unknown', 'active', 'partial', 'exhausted', 'expired', 'reactivated')),
    integrity      text COLLATE "C" NOT NULL DEFAULT 'clear'
        CHECK (integrity IN ('clear', 'suspect', 'frozen', 'void')),
    holder_id      text COLLATE "C",
    created_at     timestamptz NOT NULL,
    CONSTRAINT verified_within_face CHECK (verified_fen BETWEEN 0 AND face_fen),
    CONSTRAINT spent_within_verified CHECK (
        authorised_fen >= 0 AND captured_fen >= 0 AND authorised_fen + captured_fen <= verified_fen)
) WITH (fillfactor = 85);
COMMENT ON TABLE vouchers.voucher IS 'One voucher 券. captured_fen is net of reversals; what is left is verified - captured - authorised';
COMMENT ON COLUMN vouchers.voucher.holder_id IS 'Holder of record: a customer, or platform; null while only the bearer is known';
CREATE INDEX voucher_holder ON vouchers.voucher (holder_id, id) WHERE holder_id IS NOT NULL;

CREATE TABLE vouchers.code (
    fingerprint bytea PRIMARY KEY,
    voucher_id  text COLLATE "C" NOT NULL,
    generation  int NOT NULL,
    live        boolean NOT NULL,
    tail        text NOT NULL CHECK (length(tail) <= 4),
    key_version int NOT NULL,
    box         bytea NOT NULL,
    created_at  timestamptz NOT NULL
) WITH (fillfactor = 90);
COMMENT ON TABLE vouchers.code IS 'The code vault: every code a voucher ever had, sealed. A dead code stays, so that it is never accepted again';
CREATE UNIQUE INDEX code_generation ON vouchers.code (voucher_id, generation);
CREATE INDEX code_key_version ON vouchers.code (key_version);

CREATE TABLE vouchers.claim (
    fingerprint    bytea NOT NULL,
    voucher_id     text COLLATE "C" NOT NULL,
    order_id       text COLLATE "C" NOT NULL,
    claimant_id    text COLLATE "C" NOT NULL,
    claimed_at     timestamptz NOT NULL,
    released_at    timestamptz,
    release_reason text,
    PRIMARY KEY (voucher_id, order_id)
);
COMMENT ON TABLE vouchers.claim IS 'Who offered which code in which order; at most one live claim for a fingerprint';
CREATE UNIQUE INDEX one_live_claim ON vouchers.claim (fingerprint) WHERE released_at IS NULL;

CREATE TABLE vouchers.reveal (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    voucher_id text COLLATE "C" NOT NULL,
    generation int NOT NULL,
    actor_id   text COLLATE "C" NOT NULL,
    reason     text NOT NULL,
    at         timestamptz NOT NULL
);
COMMENT ON TABLE vouchers.reveal IS 'Every time a code was opened: by whom and why';
CREATE INDEX reveal_voucher ON vouchers.reveal (voucher_id, id);

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('custody', 'seller_held', 'claimed'),
    ('custody', 'assigned', 'claimed'),
    ('custody', 'claimed', 'platform_held'),
    ('custody', 'claimed', 'seller_held'),
    ('custody', 'claimed', 'assigned'),
    ('custody', 'claimed', 'returned'),
    ('custody', 'platform_held', 'reserved'),
    ('custody', 'platform_held', 'returned'),
    ('custody', 'reserved', 'platform_held'),
    ('custody', 'reserved', 'assigned'),
    ('custody', 'returned', 'claimed'),
    ('value', 'unknown', 'active'),
    ('value', 'unknown', 'partial'),
    ('value', 'unknown', 'exhausted'),
    ('value', 'unknown', 'expired'),
    ('value', 'active', 'partial'),
    ('value', 'active', 'exhausted'),
    ('value', 'active', 'expired'),
    ('value', 'partial', 'active'),
    ('value', 'partial', 'exhausted'),
    ('value', 'partial', 'expired'),
    ('value', 'exhausted', 'partial'),
    ('value', 'exhausted', 'active'),
    ('value', 'exhausted', 'expired'),
    ('value', 'expired', 'reactivated'),
    ('value', 'reactivated', 'partial'),
    ('value', 'reactivated', 'exhausted'),
    ('value', 'reactivated', 'expired'),
    ('integrity', 'clear', 'suspect'),
    ('integrity', 'clear', 'frozen'),
    ('integrity', 'clear', 'void'),
    ('integrity', 'suspect', 'clear'),
    ('integrity', 'suspect', 'frozen'),
    ('integrity', 'suspect', 'void'),
    ('integrity', 'frozen', 'clear'),
    ('integrity', 'frozen', 'void');

CREATE TRIGGER custody_moves BEFORE UPDATE ON vouchers.voucher FOR EACH ROW
    WHEN (OLD.custody <> NEW.custody) EXECUTE FUNCTION base.guard_move('custody', 'custody');
CREATE TRIGGER value_moves BEFORE UPDATE ON vouchers.voucher FOR EACH ROW
    WHEN (OLD.value <> NEW.value) EXECUTE FUNCTION base.guard_move('value', 'value');
CREATE TRIGGER integrity_moves BEFORE UPDATE ON vouchers.voucher FOR EACH ROW
    WHEN (OLD.integrity <> NEW.integrity) EXECUTE FUNCTION base.guard_move('integrity', 'integrity');
