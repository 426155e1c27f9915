-- Settlement: payouts, each transfer tried for one, and what the institution told.

CREATE SCHEMA settlement;

CREATE TABLE settlement.payout (
    id          text COLLATE "C" PRIMARY KEY,
    order_id    text COLLATE "C" NOT NULL UNIQUE,
    seller_id   text COLLATE "C" NOT NULL,
    payee_id    text COLLATE "C",
    method      text COLLATE "C" NOT NULL CHECK (method IN ('cash', 'stored_value', 'goods')),
    amount_fen  bigint NOT NULL CHECK (amount_fen > 0),
    state       text COLLATE "C" NOT NULL CHECK (state IN (
                'created', 'held', 'approved', 'submitted', 'unknown', 'awaiting_payee', 'succeeded', 'failed',
                'expired', 'returned')),
    store_id    text COLLATE "C",
    voucher_ids text[] NOT NULL,
    attempts    int NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND 99),
    hold_reason text,
    failure     text,
    flag        text COLLATE "C" CHECK (flag IN (
                'not_accepted', 'contradiction', 'amount_mismatch', 'paid_after_retry', 'paid_not_owed')),
    retry_at    timestamptz,
    approved_by text COLLATE "C",
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
) WITH (fillfactor = 85);
COMMENT ON TABLE settlement.payout IS 'What a seller is paid for one order 出款; an order has one payout, a payout at most one successful transfer';
COMMENT ON COLUMN settlement.payout.payee_id IS 'The account, of the seller, that cash goes to';
COMMENT ON COLUMN settlement.payout.attempts IS 'How many transfers were begun; the number of the latest';
COMMENT ON COLUMN settlement.payout.flag IS 'The institution said something that cannot be: nothing goes out until a person has looked';
COMMENT ON COLUMN settlement.payout.retry_at IS 'When the next transfer is begun without a person; null: never';
CREATE INDEX payout_seller ON settlement.payout (seller_id, id);
CREATE INDEX payout_store ON settlement.payout (store_id, id) WHERE store_id IS NOT NULL;
CREATE INDEX payout_open ON settlement.payout (state, id) WHERE state <> 'succeeded';
CREATE INDEX payout_retry ON settlement.payout (retry_at) WHERE retry_at IS NOT NULL;

CREATE TABLE settlement.attempt (
    out_no         text COLLATE "C" PRIMARY KEY CHECK (out_no ~ '^[a-z0-9]{1,32}$'),
    payout_id      text COLLATE "C" NOT NULL REFERENCES settlement.payout,
    number         int NOT NULL CHECK (number >= 1),
    state          text COLLATE "C" NOT NULL CHECK (state IN (
                   'new', 'calling', 'unknown', 'accepted', 'awaiting_payee', 'failed', 'succeeded', 'returned')),
    reason         text,
    institution_no text,
    sends          int NOT NULL DEFAULT 0,
    closing        boolean NOT NULL DEFAULT false,
    queries        int NOT NULL DEFAULT 0,
    next_query_at  timestamptz,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    UNIQUE (payout_id, number)
) WITH (fillfactor = 85);
COMMENT ON TABLE settlement.attempt IS 'One transfer to the institution. Its number is fixed before the first call and never used for another';
COMMENT ON COLUMN settlement.attempt.sends IS 'Times sent under this number since a person last looked';
COMMENT ON COLUMN settlement.attempt.closing IS 'We asked the institution to close it, because the payee did not confirm';
COMMENT ON COLUMN settlement.attempt.queries IS 'Times asked since the state last changed: each time we wait longer';
COMMENT ON COLUMN settlement.attempt.updated_at IS 'When the state last changed';
CREATE UNIQUE INDEX one_live_attempt ON settlement.attempt (payout_id) WHERE state NOT IN ('failed', 'returned');
COMMENT ON INDEX settlement.one_live_attempt IS
    'A payout has at most one transfer that is under way or has succeeded: the next begins only when it failed or came back';
CREATE INDEX attempt_query ON settlement.attempt (next_query_at) WHERE next_query_at IS NOT NULL;

CREATE TABLE settlement.step (
    payout_id text COLLATE "C" NOT NULL REFERENCES settlement.payout,
    id        bigint GENERATED ALWAYS AS IDENTITY,
    at        timestamptz NOT NULL,
    state     text COLLATE "C" NOT NULL,
    number    int,
    reason    text,
    actor_id  text COLLATE "C",
    PRIMARY KEY (payout_id, id)
);
COMMENT ON TABLE settlement.step IS 'Each state a payout came to: its timeline. Rows are only added';
COMMENT ON COLUMN settlement.step.number IS 'The transfer it was about, if any';

CREATE TABLE settlement.callback_inbox (
    notification_id text COLLATE "C" PRIMARY KEY,
    received_at     timestamptz NOT NULL
);
COMMENT ON TABLE settlement.callback_inbox IS 'Notifications of the institution that were taken: each counts once';
CREATE INDEX callback_inbox_age ON settlement.callback_inbox (received_at);

CREATE TABLE settlement.reason (
    code     text COLLATE "C" PRIMARY KEY,
    handling text COLLATE "C" CHECK (handling IN ('retry', 'ask', 'expired')),
    zh       text NOT NULL,
    en       text NOT NULL
);
COMMENT ON TABLE settlement.reason IS 'Why payouts wait, fail or are flagged, in plain words';
COMMENT ON COLUMN settlement.reason.handling IS
    'For failures: try again by ourselves, ask a person, or it expired. A reason not listed here asks a person';

INSERT INTO settlement.reason (code, handling, zh, en) VALUES
    ('institution_busy', 'retry', '支付机构繁忙', 'The institution is busy'),
    ('insufficient_funds', 'retry', '出款账户备付不足', 'The account we pay from lacks funds'),
    ('daily_limit', 'retry', '收款账户当日限额已满', 'The account has reached its limit for the day'),
    ('account_unusable', 'ask', '收款账户无法入账', 'The account cannot receive money'),
    ('name_mismatch', 'ask', '收款账户与实名信息不一致', 'The account belongs to another name'),
    ('payee_did_not_confirm', 'expired', '收款人未在 24 小时内确认收款', 'The payee did not confirm within 24 hours'),
    ('closed', 'expired', '超时未确认，已关闭', 'Closed, because the payee did not confirm in time'),
    ('payee_unverified', 'ask', '尚未实名，或没有可用的收款账户', 'No verified name, or no account to pay to'),
    ('seller_suspended', NULL, '出售人账户已停用', 'The seller''s account is suspended'),
    ('voucher_frozen', NULL, '券处于冻结状态', 'A voucher of the order is frozen'),
    ('title_not_taken', NULL, '券的权属尚未转移完成', 'Title to a voucher has not passed to the platform'),
    ('above_limit', NULL, '金额较大，出款前需复核', 'A large amount: a second person looks first'),
    ('not_accepted', NULL, '支付机构始终未受理', 'The institution never took the transfer in'),
    ('contradiction', NULL, '支付机构的前后结果不一致', 'The institution contradicts itself'),
    ('amount_mismatch', NULL, '支付机构返回的金额不符', 'The institution names another amount'),
    ('paid_after_retry', NULL, '重新出款后，前一笔转账又显示成功', 'A transfer succeeded after the next one was begun'),
    ('paid_not_owed', NULL, '转账延迟成功，但款项已不再应付', 'A transfer succeeded when nothing was owed any more'),
    ('unspecified', 'ask', '支付机构未说明原因', 'The institution gave no reason');

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('payout', 'created', 'held'),
    ('payout', 'created', 'approved'),
    ('payout', 'held', 'approved'),
    ('payout', 'approved', 'submitted'),
    ('payout', 'approved', 'awaiting_payee'),
    ('payout', 'approved', 'succeeded'),
    ('payout', 'submitted', 'unknown'),
    ('payout', 'submitted', 'awaiting_payee'),
    ('payout', 'submitted', 'succeeded'),
    ('payout', 'submitted', 'failed'),
    ('payout', 'submitted', 'expired'),
    ('payout', 'submitted', 'returned'),
    ('payout', 'unknown', 'submitted'),
    ('payout', 'unknown', 'awaiting_payee'),
    ('payout', 'unknown', 'succeeded'),
    ('payout', 'unknown', 'failed'),
    ('payout', 'unknown', 'expired'),
    ('payout', 'unknown', 'returned'),
    ('payout', 'awaiting_payee', 'succeeded'),
    ('payout', 'awaiting_payee', 'failed'),
    ('payout', 'awaiting_payee', 'expired'),
    ('payout', 'awaiting_payee', 'returned'),
    ('payout', 'failed', 'submitted'),
    ('payout', 'failed', 'succeeded'),
    ('payout', 'failed', 'returned'),
    ('payout', 'expired', 'submitted'),
    ('payout', 'expired', 'succeeded'),
    ('payout', 'expired', 'returned'),
    ('payout', 'succeeded', 'returned'),
    ('payout', 'returned', 'submitted');

-- A transfer moves to any state that says more; one the institution never heard of may be sent again.
INSERT INTO base.move (machine, from_state, to_state)
SELECT 'transfer_attempt', f.state, t.state
FROM unnest('{new,calling,unknown,accepted,awaiting_payee,failed,succeeded,returned}'::text[])
     WITH ORDINALITY AS f(state, rank)
JOIN unnest('{new,calling,unknown,accepted,awaiting_payee,failed,succeeded,returned}'::text[])
     WITH ORDINALITY AS t(state, rank)
  ON t.rank > f.rank OR (f.state IN ('calling', 'unknown') AND t.state = 'new');

CREATE TRIGGER payout_moves BEFORE UPDATE ON settlement.payout FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('payout', 'state');
CREATE TRIGGER attempt_moves BEFORE UPDATE ON settlement.attempt FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('transfer_attempt', 'state');
