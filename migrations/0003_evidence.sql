-- The evidence log: what happened to each voucher, in a Merkle tree (RFC 6962) that can only grow.

CREATE SCHEMA evidence;

CREATE TABLE evidence.pending (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    voucher_id text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    payload    text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE evidence.pending IS 'Events written by business transactions, on their way into the tree';
CREATE INDEX pending_voucher ON evidence.pending (voucher_id);
CREATE INDEX pending_subject ON evidence.pending (subject);

CREATE TABLE evidence.leaf (
    leaf_index bigint PRIMARY KEY CHECK (leaf_index >= 0),
    body       bytea NOT NULL CHECK (octet_length(body) = 93),
    voucher_id text COLLATE "C" NOT NULL,
    sequence   int NOT NULL CHECK (sequence > 0),
    subject    text COLLATE "C" NOT NULL,
    payload    text COLLATE "C" NOT NULL,
    salt       bytea NOT NULL CHECK (octet_length(salt) = 32),
    UNIQUE (voucher_id, sequence)
);
COMMENT ON TABLE evidence.leaf IS 'Events in the tree, never changed; the unique path of a voucher cannot fork';
COMMENT ON COLUMN evidence.leaf.body IS 'The leaf as it is hashed: public, and meaningless without payload and salt';
COMMENT ON COLUMN evidence.leaf.payload IS 'Canonical JSON, exactly the committed bytes';
CREATE INDEX leaf_subject ON evidence.leaf (subject);

CREATE FUNCTION evidence.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the evidence log only grows: % on % is refused', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER leaf_is_permanent BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence.leaf
    FOR EACH STATEMENT EXECUTE FUNCTION evidence.refuse_change();

CREATE TABLE evidence.tile (
    level  int NOT NULL CHECK (level >= 0),
    index  bigint NOT NULL CHECK (index >= 0),
    hashes bytea STORAGE EXTERNAL NOT NULL
        CHECK (octet_length(hashes) % 32 = 0 AND octet_length(hashes) BETWEEN 32 AND 8192),
    PRIMARY KEY (level, index)
);
COMMENT ON TABLE evidence.tile IS 'The tree as tiles of up to 256 hashes (C2SP tlog-tiles, height 8); a full one never changes';

CREATE TABLE evidence.head (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    size      bigint NOT NULL CHECK (size >= 0),
    root      bytea NOT NULL CHECK (octet_length(root) = 32)
);
COMMENT ON TABLE evidence.head IS 'One row: how large the tree is. Whoever locks it is the sequencer for that moment';
INSERT INTO evidence.head (size, root) VALUES (0, sha256(''::bytea));

CREATE TABLE evidence.checkpoint (
    size         bigint PRIMARY KEY,
    root         bytea NOT NULL CHECK (octet_length(root) = 32),
    note         text NOT NULL,
    verifier_key text NOT NULL,
    signed_at    timestamptz NOT NULL
);
COMMENT ON TABLE evidence.checkpoint IS 'Signed tree heads: the newest, and the last of every minute';
