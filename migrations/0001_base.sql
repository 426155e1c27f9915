-- What every part stands on: jobs of the outbox and answers to commands already given.

CREATE SCHEMA base;

CREATE TABLE base.route (
    topic      text COLLATE "C" NOT NULL,
    subscriber text COLLATE "C" NOT NULL,
    PRIMARY KEY (topic, subscriber)
);
COMMENT ON TABLE base.route IS 'Which verb hears which fact: a copy of story.py, written when a process starts';

CREATE TABLE base.job (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic        text COLLATE "C" NOT NULL,
    subscriber   text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    payload      jsonb NOT NULL,
    available_at timestamptz NOT NULL,
    attempts     int NOT NULL DEFAULT 0,
    lease        text COLLATE "C",
    last_error   text,
    dead_at      timestamptz,
    created_at   timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE base.job IS 'The outbox: one fact on its way to one subscriber; removed when done';
CREATE INDEX job_due ON base.job (subscriber, available_at, id) WHERE dead_at IS NULL;
CREATE INDEX job_dead ON base.job (id) WHERE dead_at IS NOT NULL;

CREATE TABLE base.answer (
    actor_id   text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    request    bytea NOT NULL,
    status     int,
    body       bytea,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (actor_id, key)
);
COMMENT ON TABLE base.answer IS 'Answers to commands by Idempotency-Key: the same key and request get the same answer';
COMMENT ON COLUMN base.answer.request IS 'SHA-256 of method, path and body';
CREATE INDEX answer_age ON base.answer (created_at);

-- States are data: every state machine lists its moves here, and the database refuses any other.

CREATE TABLE base.move (
    machine    text COLLATE "C" NOT NULL,
    from_state text COLLATE "C" NOT NULL,
    to_state   text COLLATE "C" NOT NULL,
    PRIMARY KEY (machine, from_state, to_state)
);
COMMENT ON TABLE base.move IS 'The moves each state machine allows; the same table stands in each rules.py';

CREATE FUNCTION base.guard_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moved text := TG_ARGV[0];
    before text := to_jsonb(OLD) ->> TG_ARGV[1];
    after  text := to_jsonb(NEW) ->> TG_ARGV[1];
BEGIN
    IF NOT EXISTS (SELECT FROM base.move
                   WHERE machine = moved AND from_state = before AND to_state = after) THEN
        RAISE EXCEPTION 'illegal move of % from % to %', moved, before, after
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'move_' || moved;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION base.guard_move IS 'Trigger with two arguments, machine and column: refuses a move that base.move does not list';

-- Tables that processes keep in memory carry a version, so that they know when to read again.
CREATE TABLE base.data_version (
    name    text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL
);
COMMENT ON TABLE base.data_version IS 'Counts changes of tables that processes keep in memory; see base/cached.py';

CREATE FUNCTION base.bump_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE base.data_version SET version = version + 1 WHERE name = TG_ARGV[0];
    RETURN NULL;
END $$;
COMMENT ON FUNCTION base.bump_version IS 'Statement trigger with one argument: says that a table kept in memory has changed';

CREATE TABLE base.chore (
    name    text COLLATE "C" PRIMARY KEY,
    next_at timestamptz NOT NULL
);
COMMENT ON TABLE base.chore IS 'When each chore of the clock is due: whoever moves the time on does it';
