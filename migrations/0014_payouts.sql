-- Payouts through several channels: which may pay what at what cost, how each fares, who stopped it, and what waits.

CREATE TABLE settlement.channel (
    name          text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z_]{1,32}$'),
    zh            text NOT NULL,
    en            text NOT NULL,
    enabled       boolean NOT NULL,
    priority      int NOT NULL,
    min_fen       bigint NOT NULL CHECK (min_fen > 0),
    max_fen       bigint NOT NULL CHECK (max_fen >= min_fen),
    cost_fen      bigint NOT NULL DEFAULT 0 CHECK (cost_fen >= 0),
    cost_bps      int NOT NULL DEFAULT 0 CHECK (cost_bps BETWEEN 0 AND 10000),
    day_limit_fen bigint CHECK (day_limit_fen >= 0),
    payee_kinds   text[] NOT NULL CHECK (payee_kinds <@ ARRAY['wechat', 'alipay', 'bank_card', 'sandbox']),
    stopped_by    text COLLATE "C",
    stopped_at    timestamptz,
    stop_note     text,
    silences      int NOT NULL DEFAULT 0 CHECK (silences >= 0),
    trips         int NOT NULL DEFAULT 0 CHECK (trips >= 0),
    rests_until   timestamptz,
    CONSTRAINT stopped_by_someone CHECK (num_nulls(stopped_by, stopped_at, stop_note) IN (0, 3))
) WITH (fillfactor = 50);
COMMENT ON TABLE settlement.channel IS 'Payment channels 出款通道: what each may pay, at what cost, and how it fares. Adding one is data and a gateway';
COMMENT ON COLUMN settlement.channel.cost_fen IS 'What a transfer costs, in addition to cost_bps of its amount, rounded up';
COMMENT ON COLUMN settlement.channel.day_limit_fen IS 'The most it may be told to pay on a Shanghai day; null: no limit';
COMMENT ON COLUMN settlement.channel.stopped_by IS 'Who pulled the switch: nothing new goes out; what is under way is still asked about';
COMMENT ON COLUMN settlement.channel.silences IS 'Sends in a row that got no answer, or a 5xx';
COMMENT ON COLUMN settlement.channel.trips IS 'How often in a row it was rested: each time for longer';
COMMENT ON COLUMN settlement.channel.rests_until IS 'Nothing is sent until then; after that one transfer tries whether it answers again';

INSERT INTO settlement.channel (name, zh, en, enabled, priority, min_fen, max_fen, payee_kinds) VALUES
    ('institution', '持牌支付机构', 'Licensed institution', true, 100, 1, 100000000000,
     '{wechat,alipay,bank_card,sandbox}');

CREATE TABLE settlement.channel_minute (
    channel  text COLLATE "C" NOT NULL REFERENCES settlement.channel,
    at       timestamptz NOT NULL,
    answered int NOT NULL,
    silent   int NOT NULL,
    PRIMARY KEY (channel, at)
);
COMMENT ON TABLE settlement.channel_minute IS 'How many calls of each minute a channel answered and left without answer; kept for a day';

CREATE TABLE settlement.day_total (
    day        date NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    amount_fen bigint NOT NULL CHECK (amount_fen >= 0),
    PRIMARY KEY (day, scope)
) WITH (fillfactor = 50);
COMMENT ON TABLE settlement.day_total IS 'What was told to go out on a Shanghai day, by channel:<name>. Locked to be counted, so that two workers never pass a limit';

ALTER TABLE settlement.attempt
    ADD channel text COLLATE "C" REFERENCES settlement.channel,
    ADD cost_fen bigint NOT NULL DEFAULT 0 CHECK (cost_fen >= 0);
COMMENT ON COLUMN settlement.attempt.channel IS 'Where it was sent, chosen just before the first call and never changed: its outcome is asked there';
COMMENT ON COLUMN settlement.attempt.cost_fen IS 'What the channel takes for it, as known when it was chosen';
UPDATE settlement.attempt SET channel = 'institution' WHERE state <> 'new' OR sends > 0;
ALTER TABLE settlement.attempt
    ADD CONSTRAINT sent_somewhere CHECK (state IN ('new', 'failed') OR channel IS NOT NULL);

CREATE FUNCTION settlement.keep_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'transfer % belongs to channel %', OLD.out_no, OLD.channel
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER attempt_keeps_channel BEFORE UPDATE OF channel ON settlement.attempt FOR EACH ROW
    WHEN (OLD.channel IS NOT NULL AND NEW.channel IS DISTINCT FROM OLD.channel)
    EXECUTE FUNCTION settlement.keep_channel();

ALTER TABLE settlement.payout
    ADD waiting text COLLATE "C" CHECK (waiting IN ('channels_closed', 'channel_day_limit', 'no_channel_pays')),
    ADD send_at timestamptz,
    ADD CONSTRAINT waits_until CHECK ((waiting IS NULL) = (send_at IS NULL));
COMMENT ON COLUMN settlement.payout.waiting IS 'Why its transfer has not been sent yet: no channel can take it';
COMMENT ON COLUMN settlement.payout.send_at IS 'When channels are tried again';
CREATE INDEX payout_waiting ON settlement.payout (send_at) WHERE send_at IS NOT NULL;

INSERT INTO settlement.reason (code, zh, en) VALUES
    ('channels_closed', '出款通道暂时关闭，恢复后自动付出，您无需操作',
     'No payment channel is open at the moment; it goes out by itself when one is, there is nothing you need to do'),
    ('channel_day_limit', '出款通道当日额度已用完，有额度后自动付出，您无需操作',
     'The channels have reached their limits for the day; it goes out by itself when there is room'),
    ('no_channel_pays', '暂无通道支持该收款账户或金额，可更换收款账户',
     'No channel pays this kind of account or amount; another account may help');

INSERT INTO base.permission (word) VALUES ('settlement.channels');
INSERT INTO base.role_grant (role, permission, scope) VALUES ('finance', 'settlement.channels', 'all');

-- Limits: what waits for one person, for two, and for the next day.
CREATE TABLE settlement.limits (
    only_row                boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    one_approval_above_fen  bigint NOT NULL CHECK (one_approval_above_fen >= 0),
    two_approvals_above_fen bigint NOT NULL CHECK (two_approvals_above_fen >= one_approval_above_fen),
    platform_day_fen        bigint CHECK (platform_day_fen >= 0),
    payee_day_fen           bigint CHECK (payee_day_fen >= 0)
);
COMMENT ON TABLE settlement.limits IS 'Limits of payouts 出款限额, one row';
COMMENT ON COLUMN settlement.limits.one_approval_above_fen IS
    'Above this a person approves who did not change the account or ask for the retry';
COMMENT ON COLUMN settlement.limits.two_approvals_above_fen IS 'Above this two different people approve';
COMMENT ON COLUMN settlement.limits.platform_day_fen IS 'The most cash that goes out on a Shanghai day without approval; null: no limit';
COMMENT ON COLUMN settlement.limits.payee_day_fen IS 'The same for one person, whatever their accounts';
INSERT INTO settlement.limits (one_approval_above_fen, two_approvals_above_fen, platform_day_fen, payee_day_fen)
VALUES (2000000, 20000000, 10000000000, 50000000);
COMMENT ON TABLE settlement.day_total IS
    'What was told to go out on a Shanghai day, by channel:<name>, payee:<customer>, and platform. Locked to be counted, so that two workers never pass a limit';

ALTER TABLE settlement.payout
    ADD changed_by text COLLATE "C",
    ADD approvals text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT approved_by_others CHECK (changed_by <> ALL (approvals)),
    ADD CONSTRAINT approved_by_different_people CHECK (
        cardinality(approvals) < 2 OR (cardinality(approvals) = 2 AND approvals[1] <> approvals[2]));
COMMENT ON COLUMN settlement.payout.changed_by IS 'Who last changed the account of a large payout, or asked for its retry: another must approve';
COMMENT ON COLUMN settlement.payout.approvals IS 'Who approved a large payout as it now is';

INSERT INTO settlement.reason (code, zh, en) VALUES
    ('platform_day_limit', '平台当日出款额度已满，次日自动付出', 'The platform has paid out its limit for the day; it goes by itself the next day'),
    ('payee_day_limit', '您当日的收款额度已满，次日自动付出', 'You have received your limit for the day; it goes by itself the next day'),
    ('not_owed', '该款项已不在应付余额中', 'The money is no longer owed: it was taken back or went another way'),
    ('second_approval', '金额重大，需第二人复核', 'A very large amount: another person looks too'),
    ('payee_changed', '收款账户有变更，需他人复核', 'The account was changed: another person looks first'),
    ('retry_asked_for', '申请重新出款，需他人复核', 'A retry was asked for: another person looks first');

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('payout', 'failed', 'held'), ('payout', 'expired', 'held'), ('payout', 'returned', 'held');

-- Cancelled: it was not sent, or its channel closed it before the payee took it.
ALTER TABLE settlement.payout
    DROP CONSTRAINT payout_state_check,
    ADD CONSTRAINT payout_state_check CHECK (state IN (
        'created', 'held', 'approved', 'submitted', 'unknown', 'awaiting_payee', 'succeeded', 'failed', 'expired',
        'cancelled', 'returned')),
    ADD cancelled_by text COLLATE "C";
COMMENT ON COLUMN settlement.payout.cancelled_by IS 'Who wants it cancelled; it is once its channel has closed the transfer';
INSERT INTO settlement.reason (code, handling, zh, en) VALUES
    ('cancelled', 'ask', '尚未发出即已取消', 'Cancelled before it was sent');
INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('payout', 'held', 'cancelled'), ('payout', 'submitted', 'cancelled'), ('payout', 'awaiting_payee', 'cancelled'),
    ('payout', 'cancelled', 'held'), ('payout', 'cancelled', 'submitted'), ('payout', 'cancelled', 'succeeded'),
    ('payout', 'cancelled', 'returned');
