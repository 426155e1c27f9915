-- Who calls and what they may do: roles and sessions for everybody, then customers, then staff and partners.

-- Permissions and roles ------------------------------------------------------------------------------

CREATE TABLE base.permission (word text COLLATE "C" PRIMARY KEY);
COMMENT ON TABLE base.permission IS 'Every permission that a route may ask for; described in base/access.py';

CREATE TABLE base.role (
    name   text COLLATE "C" PRIMARY KEY,
    holder text COLLATE "C" NOT NULL CHECK (holder IN ('customer', 'staff', 'partner')),
    zh     text NOT NULL,
    en     text NOT NULL
);
COMMENT ON TABLE base.role IS 'Names of what people and programs do here; see base.role_grant';
COMMENT ON COLUMN base.role.holder IS 'The kind of actor that may hold this role';

CREATE TABLE base.role_grant (
    role       text COLLATE "C" NOT NULL REFERENCES base.role,
    permission text COLLATE "C" NOT NULL REFERENCES base.permission,
    scope      text COLLATE "C" NOT NULL CHECK (scope IN ('own', 'store', 'merchant', 'enterprise', 'all')),
    PRIMARY KEY (role, permission)
);
COMMENT ON TABLE base.role_grant IS 'What each role may do, and how far it reaches';

INSERT INTO base.permission (word) VALUES
    ('buyback.appeal'), ('buyback.read'), ('buyback.review'), ('buyback.sell'),
    ('catalogue.manage'), ('catalogue.read'), ('customers.manage'), ('customers.self'), ('evidence.read'),
    ('ledger.read'), ('market.buy'), ('market.list'), ('market.read'), ('market.reveal'),
    ('outbox.read'), ('outbox.revive'), ('places.read'),
    ('redemption.read'), ('redemption.redeem'), ('redemption.reverse'), ('reports.read'),
    ('sessions.self'), ('settlement.approve'), ('settlement.handover'), ('settlement.read'),
    ('staff.audit'), ('staff.manage'), ('staff.self'), ('vouchers.freeze'), ('vouchers.read');

INSERT INTO base.role (name, holder, zh, en) VALUES
    ('customer', 'customer', '个人用户', 'A person who sells, buys and redeems for themselves'),
    ('enterprise_member', 'customer', '企业经办人', 'A person acting for an enterprise'),
    ('desk_clerk', 'staff', '服务台店员', 'Serves customers at one store'),
    ('store_manager', 'staff', '门店经理', 'Runs one store and undoes mistakes there'),
    ('merchant_operator', 'staff', '商户操作员', 'Works for one merchant or issuer'),
    ('operations', 'staff', '运营', 'Products, stock and customers'),
    ('risk_officer', 'staff', '风控专员', 'Reviews cases and freezes vouchers'),
    ('finance', 'staff', '财务', 'Approves payouts and reads the books'),
    ('compliance', 'staff', '合规', 'Answers to supervisors; reads, reviews, audits'),
    ('auditor', 'staff', '审计', 'Reads everything and changes nothing'),
    ('administrator', 'staff', '系统管理员', 'Staff, partners and the running of the platform'),
    ('partner', 'partner', '合作方接口', 'A program of an enterprise or a merchant');

INSERT INTO base.role_grant (role, permission, scope)
SELECT roles.role, g.permission, roles.scope
FROM (VALUES
    ('customer', 'own', 'buyback.sell buyback.read buyback.appeal settlement.read market.buy market.reveal '
        'redemption.read evidence.read customers.self sessions.self'),
    ('customer', 'all', 'market.read catalogue.read places.read'),
    ('enterprise_member', 'enterprise', 'buyback.sell buyback.read buyback.appeal settlement.read market.buy '
        'market.reveal redemption.read evidence.read'),
    ('enterprise_member', 'own', 'customers.self sessions.self'),
    ('enterprise_member', 'all', 'market.read catalogue.read places.read'),
    ('desk_clerk', 'store', 'buyback.sell buyback.read settlement.read settlement.handover '
        'redemption.redeem redemption.reverse redemption.read'),
    ('desk_clerk', 'own', 'staff.self sessions.self'),
    ('desk_clerk', 'all', 'market.read catalogue.read places.read'),
    ('store_manager', 'store', 'buyback.sell buyback.read settlement.read settlement.handover '
        'redemption.redeem redemption.reverse redemption.read reports.read'),
    ('store_manager', 'own', 'staff.self sessions.self'),
    ('store_manager', 'all', 'market.read catalogue.read places.read'),
    ('merchant_operator', 'merchant', 'catalogue.manage redemption.redeem redemption.reverse redemption.read '
        'settlement.read reports.read'),
    ('merchant_operator', 'own', 'staff.self sessions.self'),
    ('merchant_operator', 'all', 'market.read catalogue.read places.read'),
    ('operations', 'all', 'catalogue.read catalogue.manage places.read buyback.read market.read market.list '
        'redemption.read customers.manage vouchers.read evidence.read outbox.read outbox.revive reports.read'),
    ('operations', 'own', 'staff.self sessions.self'),
    ('risk_officer', 'all', 'catalogue.read places.read buyback.read buyback.review settlement.read market.read '
        'redemption.read vouchers.read vouchers.freeze customers.manage evidence.read reports.read'),
    ('risk_officer', 'own', 'staff.self sessions.self'),
    ('finance', 'all', 'catalogue.read places.read buyback.read settlement.read settlement.approve '
        'redemption.read ledger.read evidence.read reports.read'),
    ('finance', 'own', 'staff.self sessions.self'),
    ('compliance', 'all', 'catalogue.read places.read buyback.read buyback.review settlement.read market.read '
        'redemption.read ledger.read vouchers.read vouchers.freeze evidence.read staff.audit reports.read'),
    ('compliance', 'own', 'staff.self sessions.self'),
    ('auditor', 'all', 'catalogue.read places.read buyback.read settlement.read market.read redemption.read '
        'ledger.read vouchers.read evidence.read outbox.read staff.audit reports.read'),
    ('auditor', 'own', 'staff.self sessions.self'),
    ('administrator', 'all', 'catalogue.read catalogue.manage places.read customers.manage staff.manage '
        'staff.audit outbox.read outbox.revive reports.read'),
    ('administrator', 'own', 'staff.self sessions.self'),
    ('partner', 'enterprise', 'buyback.sell buyback.read buyback.appeal market.buy market.reveal'),
    ('partner', 'merchant', 'settlement.read redemption.redeem redemption.reverse redemption.read'),
    ('partner', 'all', 'market.read catalogue.read places.read')
) AS roles(role, scope, words)
CROSS JOIN LATERAL string_to_table(roles.words, ' ') AS g(permission);

-- Sessions and limits --------------------------------------------------------------------------------

CREATE TABLE base.session (
    id           text COLLATE "C" PRIMARY KEY,
    kind         text COLLATE "C" NOT NULL CHECK (kind IN ('customer', 'staff')),
    actor_id     text COLLATE "C" NOT NULL,
    acts_for     text COLLATE "C",
    token_hash   bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    device_id    text,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
COMMENT ON TABLE base.session IS 'Who is signed in; the token itself is known to its holder alone';
COMMENT ON COLUMN base.session.acts_for IS 'The enterprise on whose behalf a member signed in';
COMMENT ON COLUMN base.session.token_hash IS 'SHA-256 of the token';
COMMENT ON COLUMN base.session.last_used_at IS 'To the hour, so that reading rarely writes';
CREATE INDEX session_actor ON base.session (actor_id) WHERE revoked_at IS NULL;
CREATE INDEX session_age ON base.session (expires_at);

CREATE TABLE base.attempt (
    kind          text COLLATE "C" NOT NULL,
    key           bytea NOT NULL,
    tries         int NOT NULL,
    rounds        int NOT NULL,
    since         timestamptz NOT NULL,
    blocked_until timestamptz,
    PRIMARY KEY (kind, key)
);
COMMENT ON TABLE base.attempt IS 'How often someone tried something of late; see base/attempts.py';
COMMENT ON COLUMN base.attempt.key IS 'A keyed fingerprint of the phone, login, device or address';
COMMENT ON COLUMN base.attempt.rounds IS 'Blocks in a row: each is twice as long as the one before';
CREATE INDEX attempt_age ON base.attempt (since);

-- Customers ------------------------------------------------------------------------------------------

CREATE SCHEMA customers;

CREATE TABLE customers.customer (
    id                    text COLLATE "C" PRIMARY KEY,
    phone_fingerprint     bytea NOT NULL UNIQUE CHECK (length(phone_fingerprint) = 32),
    id_number_fingerprint bytea UNIQUE CHECK (length(id_number_fingerprint) = 32),
    key_version           int NOT NULL,
    box                   bytea NOT NULL,
    identity_level        text COLLATE "C" NOT NULL DEFAULT 'none'
                          CHECK (identity_level IN ('none', 'named', 'verified')),
    verified_at           timestamptz,
    elder_mode            boolean NOT NULL DEFAULT false,
    status                text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at            timestamptz NOT NULL,
    CONSTRAINT verified_by_number
        CHECK ((identity_level = 'verified') = (id_number_fingerprint IS NOT NULL)),
    CONSTRAINT verified_at_an_instant CHECK ((identity_level = 'verified') = (verified_at IS NOT NULL))
);
COMMENT ON TABLE customers.customer IS 'People who sell and buy; a phone number and an identity number belong to one each';
COMMENT ON COLUMN customers.customer.box IS 'Phone, names and identity number, sealed together for this id';

CREATE TABLE customers.sign_in_code (
    phone_fingerprint bytea PRIMARY KEY CHECK (length(phone_fingerprint) = 32),
    id                text COLLATE "C" NOT NULL,
    code_mac          bytea NOT NULL CHECK (length(code_mac) = 32),
    tries             int NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND 5),
    expires_at        timestamptz NOT NULL
);
COMMENT ON TABLE customers.sign_in_code IS 'The one code that now opens an account by phone; removed when used';
COMMENT ON COLUMN customers.sign_in_code.code_mac IS 'Keyed HMAC of code id and code';
CREATE INDEX sign_in_code_age ON customers.sign_in_code (expires_at);

CREATE TABLE customers.payee (
    id                  text COLLATE "C" PRIMARY KEY,
    customer_id         text COLLATE "C" NOT NULL REFERENCES customers.customer,
    kind                text COLLATE "C" NOT NULL CHECK (kind IN ('wechat', 'alipay', 'bank_card', 'sandbox')),
    account_fingerprint bytea NOT NULL CHECK (length(account_fingerprint) = 32),
    tail                text NOT NULL CHECK (length(tail) <= 4),
    key_version         int NOT NULL,
    box                 bytea NOT NULL,
    created_at          timestamptz NOT NULL,
    closed_at           timestamptz
);
COMMENT ON TABLE customers.payee IS 'Where a verified person wants to be paid, always under their own name';
COMMENT ON COLUMN customers.payee.box IS 'Account and holder name, sealed together for this id';
COMMENT ON COLUMN customers.payee.tail IS 'The last characters of the account, enough to recognise it by';
CREATE UNIQUE INDEX payee_once ON customers.payee (customer_id, account_fingerprint) WHERE closed_at IS NULL;
CREATE INDEX payee_account ON customers.payee (account_fingerprint);

CREATE TABLE customers.consent (
    id           text COLLATE "C" PRIMARY KEY,
    customer_id  text COLLATE "C" NOT NULL REFERENCES customers.customer,
    purpose      text COLLATE "C" NOT NULL CHECK (purpose IN
                 ('terms', 'privacy', 'identity_check', 'automated_decision', 'marketing')),
    version      text NOT NULL,
    given_at     timestamptz NOT NULL,
    withdrawn_at timestamptz CHECK (withdrawn_at >= given_at)
);
COMMENT ON TABLE customers.consent IS 'What a person agreed to, in which wording, from when until when (PIPL art. 13-15)';
CREATE UNIQUE INDEX consent_live ON customers.consent (customer_id, purpose) WHERE withdrawn_at IS NULL;
CREATE INDEX consent_customer ON customers.consent (customer_id, id);

CREATE TABLE customers.enterprise (
    id          text COLLATE "C" PRIMARY KEY,
    credit_code text COLLATE "C" NOT NULL UNIQUE CHECK (length(credit_code) = 18),
    name        text NOT NULL,
    status      text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at  timestamptz NOT NULL
);
COMMENT ON TABLE customers.enterprise IS 'Companies that sell and buy in bulk, by unified social credit code';

CREATE TABLE customers.enterprise_member (
    enterprise_id text COLLATE "C" NOT NULL REFERENCES customers.enterprise,
    customer_id   text COLLATE "C" NOT NULL REFERENCES customers.customer,
    role          text COLLATE "C" NOT NULL CHECK (role IN ('owner', 'agent')),
    PRIMARY KEY (enterprise_id, customer_id)
);
COMMENT ON TABLE customers.enterprise_member IS 'People who may sign in on behalf of a company';
CREATE INDEX enterprise_member_customer ON customers.enterprise_member (customer_id);

-- Staff and partners ---------------------------------------------------------------------------------

CREATE SCHEMA staff;

CREATE TABLE staff.operator (
    id             text COLLATE "C" PRIMARY KEY,
    login          text COLLATE "C" NOT NULL UNIQUE CHECK (login = lower(login)),
    password_hash  text NOT NULL,
    key_version    int NOT NULL,
    box            bytea NOT NULL,
    last_totp_step bigint NOT NULL DEFAULT 0,
    status         text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    store_id       text COLLATE "C",
    merchant_id    text COLLATE "C",
    created_at     timestamptz NOT NULL
);
COMMENT ON TABLE staff.operator IS 'People who work with the platform: at a desk, a merchant or headquarters';
COMMENT ON COLUMN staff.operator.password_hash IS 'argon2id, with its parameters and salt';
COMMENT ON COLUMN staff.operator.box IS 'Name and TOTP secret, sealed together for this id';
COMMENT ON COLUMN staff.operator.last_totp_step IS 'The latest time step whose one-time password was spent';

CREATE TABLE staff.operator_role (
    operator_id text COLLATE "C" NOT NULL REFERENCES staff.operator,
    role        text COLLATE "C" NOT NULL,
    PRIMARY KEY (operator_id, role)
);
COMMENT ON TABLE staff.operator_role IS 'Which roles an operator holds, and where';
COMMENT ON COLUMN staff.operator_role.role IS 'Name of a role in base.role that staff may hold';

CREATE TABLE staff.partner (
    id            text COLLATE "C" PRIMARY KEY,
    name          text NOT NULL,
    enterprise_id text COLLATE "C",
    merchant_id   text COLLATE "C",
    status        text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at    timestamptz NOT NULL,
    CONSTRAINT belongs_somewhere CHECK (enterprise_id IS NOT NULL OR merchant_id IS NOT NULL)
);
COMMENT ON TABLE staff.partner IS 'Programs of an enterprise or a merchant that call the API';

CREATE TABLE staff.partner_key (
    id          text COLLATE "C" PRIMARY KEY,
    partner_id  text COLLATE "C" NOT NULL REFERENCES staff.partner,
    key_version int NOT NULL,
    box         bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);
COMMENT ON TABLE staff.partner_key IS 'Signing secrets of partners, sealed; two may live side by side while one is replaced';
CREATE INDEX partner_key_partner ON staff.partner_key (partner_id);

CREATE TABLE staff.partner_message (
    key_id     text COLLATE "C" NOT NULL REFERENCES staff.partner_key,
    message_id text COLLATE "C" NOT NULL CHECK (length(message_id) <= 128),
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (key_id, message_id)
);
COMMENT ON TABLE staff.partner_message IS 'Signed requests already answered, kept while their signature could still pass';
CREATE INDEX partner_message_age ON staff.partner_message (seen_at);

CREATE TABLE staff.audit_entry (
    id       text COLLATE "C" PRIMARY KEY,
    actor_id text COLLATE "C" NOT NULL,
    action   text COLLATE "C" NOT NULL,
    subject  text COLLATE "C" NOT NULL,
    reason   text NOT NULL,
    at       timestamptz NOT NULL
);
COMMENT ON TABLE staff.audit_entry IS 'What staff did, to what, why: written once, never changed';
CREATE INDEX audit_entry_actor ON staff.audit_entry (actor_id, id);
CREATE INDEX audit_entry_subject ON staff.audit_entry (subject, id);

CREATE FUNCTION staff.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are only ever added';
END $$;
CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON staff.audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION staff.refuse_change();
