-- Guards on every hot update read the columns they guard instead of turning whole rows into JSON.

CREATE OR REPLACE FUNCTION base.guard_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moved  text := TG_ARGV[0];
    before text;
    after  text;
BEGIN
    -- Only the branch that is taken is looked up in the table, so one function serves tables of all shapes.
    CASE TG_ARGV[1]
        WHEN 'state' THEN before := OLD.state; after := NEW.state;
        WHEN 'custody' THEN before := OLD.custody; after := NEW.custody;
        WHEN 'value' THEN before := OLD.value; after := NEW.value;
        WHEN 'integrity' THEN before := OLD.integrity; after := NEW.integrity;
    END CASE;
    IF NOT EXISTS (SELECT FROM base.move
                   WHERE machine = moved AND from_state = before AND to_state = after) THEN
        RAISE EXCEPTION 'illegal move of % from % to %', moved, before, after
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'move_' || moved;
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION buyback.keep_quote() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.order_id, NEW.gross_fen, NEW.fee_fen, NEW.net_fen, NEW.methods, NEW.model_version,
        NEW.policy_version, NEW.inputs_hash, NEW.issued_at, NEW.expires_at)
       IS DISTINCT FROM
       (OLD.id, OLD.order_id, OLD.gross_fen, OLD.fee_fen, OLD.net_fen, OLD.methods, OLD.model_version,
        OLD.policy_version, OLD.inputs_hash, OLD.issued_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'a quote is immutable' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
