-- Judgements: what a voucher is worth, what the rules allow, what looks wrong. All of it data.

CREATE SCHEMA valuation;

CREATE TABLE valuation.rate (
    category      text COLLATE "C" NOT NULL,
    product_id    text COLLATE "C" NOT NULL DEFAULT '',
    min_days_left int NOT NULL CHECK (min_days_left >= 0),
    value_bps     int NOT NULL CHECK (value_bps BETWEEN 0 AND 10000),
    spread_bps    int NOT NULL CHECK (spread_bps BETWEEN 0 AND 10000),
    PRIMARY KEY (category, product_id, min_days_left)
);
COMMENT ON TABLE valuation.rate IS 'What disposing of a voucher well brings, in bps of its balance, by days left; a row for a product wins over its category';
COMMENT ON COLUMN valuation.rate.spread_bps IS 'Half the width of the interval around the value, in bps of the balance';

-- Supermarket paper changes hands at 98.3% of face (sd 0.86) in shops that publish their prices; dated
-- and narrow vouchers bring less, and everything falls off a cliff near expiry.
INSERT INTO valuation.rate (category, min_days_left, value_bps, spread_bps) VALUES
    ('supermarket', 180, 9830, 100), ('supermarket', 90, 9750, 120), ('supermarket', 30, 9600, 150),
    ('supermarket', 14, 9300, 200), ('supermarket', 7, 8800, 250),
    ('fuel', 180, 9800, 100), ('fuel', 90, 9700, 150), ('fuel', 30, 9500, 200), ('fuel', 14, 9100, 250),
    ('ecommerce_code', 180, 9700, 150), ('ecommerce_code', 90, 9600, 150), ('ecommerce_code', 30, 9400, 200),
    ('ecommerce_code', 14, 9000, 250),
    ('liquor', 180, 9400, 200), ('liquor', 90, 9200, 250), ('liquor', 30, 8800, 300),
    ('restaurant', 180, 9200, 250), ('restaurant', 90, 9000, 250), ('restaurant', 30, 8500, 300),
    ('restaurant', 14, 7800, 300),
    ('travel', 180, 9000, 300), ('travel', 90, 8700, 300), ('travel', 30, 8000, 300);

CREATE SCHEMA compliance;

CREATE TABLE compliance.policy (
    id             text COLLATE "C" PRIMARY KEY,
    legal_class    text COLLATE "C" NOT NULL,
    region         text COLLATE "C" NOT NULL,
    effective_from date NOT NULL,
    effective_to   date,
    methods        text[] NOT NULL CHECK (methods <@ ARRAY['cash', 'stored_value', 'goods']),
    max_face_fen   bigint,
    clause_zh      text NOT NULL,
    clause_en      text NOT NULL,
    confirmed      boolean NOT NULL,
    CHECK (effective_to IS NULL OR effective_to > effective_from)
);
COMMENT ON TABLE compliance.policy IS 'How a legal class may be bought back, by region and date, with the clause it rests on';
COMMENT ON COLUMN compliance.policy.confirmed IS 'False: from general knowledge, to be confirmed by counsel before use';
CREATE UNIQUE INDEX policy_in_force ON compliance.policy (legal_class, region, effective_from);

INSERT INTO compliance.policy
    (id, legal_class, region, effective_from, methods, max_face_fen, clause_zh, clause_en, confirmed) VALUES
    ('marketing-coupon-2025', 'marketing_coupon', 'CN', '2025-05-01', '{stored_value,goods}', NULL,
     '营销券为商家让利凭证，不兑付现金', 'A marketing coupon is a discount of the merchant, not bought for cash', false),
    ('goods-voucher-2025', 'goods_voucher', 'CN', '2025-05-01', '{cash,stored_value,goods}', 100000,
     '法释〔2025〕4号：债权转让自通知经营者时生效', 'Fa Shi (2025) 4: a transfer takes effect on notice to the operator', true),
    ('single-purpose-bearer-2025', 'single_purpose_bearer', 'CN', '2025-05-01', '{cash,stored_value,goods}', 100000,
     '单用途卡办法：不记名卡限额 1,000 元；法释〔2025〕4号：转让自通知时生效',
     'Single-purpose card rules: bearer cards up to 1,000 yuan; Fa Shi (2025) 4', true),
    ('single-purpose-registered-2025', 'single_purpose_registered', 'CN', '2025-05-01', '{cash,stored_value,goods}', 500000,
     '单用途卡办法：记名卡限额 5,000 元；受让人可要求变更姓名或密码',
     'Single-purpose card rules: registered cards up to 5,000 yuan; the transferee may demand rename', true),
    ('multi-purpose-2025', 'multi_purpose', 'CN', '2025-05-01', '{}', 500000,
     '多用途预付卡不得直接或变相套现', 'Multi-purpose cards may not be turned into cash, directly or in disguise', false),
    ('foreign-gift-code-2025', 'foreign_brand_gift_code', 'CN', '2025-05-01', '{cash,stored_value,goods}', 200000,
     '境外品牌礼品码：按债权转让处理，核验发行方锁定后受理',
     'Foreign gift codes: assigned as a claim, taken once the issuer has locked them', false);

CREATE SCHEMA risk;

CREATE TABLE risk.rule (
    code       text COLLATE "C" PRIMARY KEY,
    measure    text COLLATE "C" NOT NULL,
    threshold  bigint NOT NULL,
    outcome    text COLLATE "C" NOT NULL CHECK (outcome IN ('hold', 'review', 'reject')),
    shadow     boolean NOT NULL DEFAULT false,
    reason_zh  text NOT NULL,
    reason_en  text NOT NULL
);
COMMENT ON TABLE risk.rule IS 'A measure above its threshold has an outcome; a shadow rule is only noted';

INSERT INTO risk.rule (code, measure, threshold, outcome, shadow, reason_zh, reason_en) VALUES
    ('refusals-account', 'account_refusals_1h', 20, 'reject', false,
     '一小时内多次提交无法受理的券码', 'Too many refused codes from this account within an hour'),
    ('refusals-device', 'device_refusals_1h', 30, 'reject', false,
     '该设备一小时内多次提交无法受理的券码', 'Too many refused codes from this device within an hour'),
    ('offers-account', 'account_offers_24h', 2000, 'review', false,
     '该账户 24 小时内出售张数异常', 'Unusually many vouchers from this account within 24 hours'),
    ('offers-device', 'device_offers_24h', 3000, 'review', false,
     '该设备 24 小时内出售张数异常', 'Unusually many vouchers from this device within 24 hours'),
    ('amount-account', 'account_amount_fen_24h', 20000000, 'review', false,
     '该账户 24 小时内出售金额较大，需人工核实', 'A large amount from this account within 24 hours: a person will look'),
    ('amount-order', 'order_amount_fen', 5000000, 'hold', false,
     '单笔金额较大，出款前需复核', 'A large order: the payout waits for a second look'),
    ('payee-shared', 'payee_sellers_24h', 3, 'hold', false,
     '多个账户使用同一收款账户', 'Several accounts are paid to one payee'),
    ('structuring', 'account_near_limit_24h', 3, 'hold', true,
     '多笔金额略低于限额', 'Several orders just under a limit');

CREATE TABLE risk.activity (
    key        text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    offers     int NOT NULL,
    refusals   int NOT NULL,
    amount_fen bigint NOT NULL,
    near_limit int NOT NULL,
    PRIMARY KEY (key, hour)
) WITH (fillfactor = 70);
COMMENT ON TABLE risk.activity IS 'What an account, device or payee did in each hour: counters for velocity';

CREATE TABLE risk.payee_use (
    payee_id  text COLLATE "C" NOT NULL,
    seller_id text COLLATE "C" NOT NULL,
    last_at   timestamptz NOT NULL,
    PRIMARY KEY (payee_id, seller_id)
);
COMMENT ON TABLE risk.payee_use IS 'Which sellers were paid to which account, and when last';

CREATE TABLE risk.decision (
    id       text COLLATE "C" PRIMARY KEY,
    subject  text COLLATE "C" NOT NULL,
    outcome  text COLLATE "C" NOT NULL CHECK (outcome IN ('allow', 'hold', 'review', 'reject')),
    tree     jsonb NOT NULL,
    rules    text COLLATE "C" NOT NULL,
    at       timestamptz NOT NULL
);
COMMENT ON TABLE risk.decision IS 'Each decision with its whole tree of reasons and the version of the rules';
CREATE INDEX decision_subject ON risk.decision (subject);

INSERT INTO base.data_version VALUES ('valuation', 1), ('compliance', 1), ('risk', 1);

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON valuation.rate
    EXECUTE FUNCTION base.bump_version('valuation');
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON compliance.policy
    EXECUTE FUNCTION base.bump_version('compliance');
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON risk.rule
    EXECUTE FUNCTION base.bump_version('risk');
