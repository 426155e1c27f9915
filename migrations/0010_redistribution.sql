-- Redistribution: stock that the platform owns, its listings, and the purchases that sell them.

CREATE SCHEMA redistribution;

CREATE TABLE redistribution.price_step (
    product_id text COLLATE "C" NOT NULL,
    min_days   int NOT NULL CHECK (min_days > 0),
    price_bps  int NOT NULL CHECK (price_bps BETWEEN 1 AND 10000),
    PRIMARY KEY (product_id, min_days)
);
COMMENT ON TABLE redistribution.price_step IS
    'Automatic prices: the share of the available value, in basis points, while at least so many whole days remain. '
    'Steps of the product * serve products without steps of their own; nearer to expiry a person sets the price';

INSERT INTO redistribution.price_step (product_id, min_days, price_bps) VALUES
    ('*', 180, 9600),
    ('*', 90, 9500),
    ('*', 30, 9300),
    ('*', 7, 9000);

CREATE TABLE redistribution.listing (
    id              text COLLATE "C" PRIMARY KEY,
    voucher_id      text COLLATE "C" NOT NULL,
    order_id        text COLLATE "C" NOT NULL,
    product_id      text COLLATE "C" NOT NULL,
    face_fen        bigint NOT NULL CHECK (face_fen > 0),
    value_fen       bigint NOT NULL,
    cost_fen        bigint NOT NULL CHECK (cost_fen >= 0),
    price_fen       bigint,
    automatic       boolean NOT NULL DEFAULT true,
    expires_at      timestamptz NOT NULL,
    state           text COLLATE "C" NOT NULL CONSTRAINT listing_state CHECK (state IN (
                        'draft', 'listed', 'delisted', 'expired', 'reserved', 'sold', 'revealed', 'guaranteed',
                        'closed', 'disputed', 'refunded', 'upheld')),
    purchase_id     text COLLATE "C",
    guarantee_until timestamptz,
    created_at      timestamptz NOT NULL,
    CONSTRAINT stocked_once UNIQUE (voucher_id, order_id),
    CONSTRAINT value_within_face CHECK (value_fen BETWEEN 0 AND face_fen),
    CONSTRAINT price_within_value CHECK (price_fen BETWEEN 1 AND value_fen),
    CONSTRAINT priced_before_listed CHECK (state IN ('draft', 'expired') OR price_fen IS NOT NULL),
    CONSTRAINT sold_in_a_purchase CHECK (
        (state IN ('draft', 'listed', 'delisted', 'expired')) = (purchase_id IS NULL))
) WITH (fillfactor = 85);
COMMENT ON TABLE redistribution.listing IS '挂售: one voucher of our stock on its way to a buyer';
COMMENT ON COLUMN redistribution.listing.order_id IS 'The buyback order that brought the voucher in';
COMMENT ON COLUMN redistribution.listing.value_fen IS 'What was left on the voucher when it came in; stock cannot be spent';
COMMENT ON COLUMN redistribution.listing.automatic IS 'Whether the price table may list it; false once a person has to decide';
COMMENT ON COLUMN redistribution.listing.purchase_id IS 'The purchase that holds or has bought it';
CREATE UNIQUE INDEX one_live_listing ON redistribution.listing (voucher_id)
    WHERE state IN ('draft', 'listed', 'delisted', 'reserved');
CREATE INDEX listing_newest ON redistribution.listing (id) WHERE state = 'listed';
CREATE INDEX listing_cheapest ON redistribution.listing (price_fen, id) WHERE state = 'listed';
CREATE INDEX listing_of_product ON redistribution.listing (product_id, price_fen, id) WHERE state = 'listed';
CREATE INDEX listing_state ON redistribution.listing (state, id);
CREATE INDEX listing_purchase ON redistribution.listing (purchase_id) WHERE purchase_id IS NOT NULL;
CREATE INDEX listing_to_price ON redistribution.listing (id) WHERE state = 'draft' AND automatic;
CREATE INDEX listing_unsold_expiry ON redistribution.listing (expires_at)
    WHERE state IN ('draft', 'listed', 'delisted', 'sold');
CREATE INDEX listing_guarantee ON redistribution.listing (guarantee_until)
    WHERE state IN ('revealed', 'guaranteed', 'upheld');

CREATE TABLE redistribution.purchase (
    id             text COLLATE "C" PRIMARY KEY,
    buyer_id       text COLLATE "C" NOT NULL,
    total_fen      bigint NOT NULL CHECK (total_fen > 0),
    state          text COLLATE "C" NOT NULL CONSTRAINT purchase_state CHECK (state IN (
                       'pending_payment', 'paid', 'closed', 'refund_due', 'refunded')),
    reason         text COLLATE "C",
    reserved_until timestamptz NOT NULL,
    payment_no     text COLLATE "C",
    closing_at     timestamptz,
    received_fen   bigint CHECK (received_fen > 0),
    paid_at        timestamptz,
    created_at     timestamptz NOT NULL,
    CONSTRAINT paid_in_full CHECK (state <> 'paid' OR (received_fen = total_fen AND paid_at IS NOT NULL))
) WITH (fillfactor = 85);
COMMENT ON TABLE redistribution.purchase IS '购买: a set of listings bought together, paid in money only';
COMMENT ON COLUMN redistribution.purchase.reason IS 'Why it was closed or has to be refunded';
COMMENT ON COLUMN redistribution.purchase.payment_no IS 'The number of the institution for the payment, once it was asked';
COMMENT ON COLUMN redistribution.purchase.closing_at IS 'When closing the payment at the institution was asked for';
CREATE INDEX purchase_buyer ON redistribution.purchase (buyer_id, id);
CREATE INDEX purchase_pending ON redistribution.purchase (reserved_until) WHERE state = 'pending_payment';

CREATE TABLE redistribution.purchase_item (
    purchase_id text COLLATE "C" NOT NULL REFERENCES redistribution.purchase,
    listing_id  text COLLATE "C" NOT NULL REFERENCES redistribution.listing,
    price_fen   bigint NOT NULL CHECK (price_fen > 0),
    PRIMARY KEY (purchase_id, listing_id)
);
COMMENT ON TABLE redistribution.purchase_item IS 'What a purchase asked for and at which price; it stays when the reservation lapses';

CREATE TABLE redistribution.refund (
    id          text COLLATE "C" PRIMARY KEY,
    purchase_id text COLLATE "C" NOT NULL REFERENCES redistribution.purchase,
    listing_id  text COLLATE "C" REFERENCES redistribution.listing,
    amount_fen  bigint NOT NULL CHECK (amount_fen > 0),
    reason      text COLLATE "C" NOT NULL,
    created_at  timestamptz NOT NULL,
    done_at     timestamptz
);
COMMENT ON TABLE redistribution.refund IS 'Money to give back to a buyer: of one listing, or (null) of a payment that bought nothing';
CREATE UNIQUE INDEX refund_of_payment ON redistribution.refund (purchase_id) WHERE listing_id IS NULL;
CREATE UNIQUE INDEX refund_of_listing ON redistribution.refund (listing_id) WHERE listing_id IS NOT NULL;
CREATE INDEX refund_purchase ON redistribution.refund (purchase_id);

CREATE TABLE redistribution.dispute (
    listing_id text COLLATE "C" PRIMARY KEY REFERENCES redistribution.listing,
    reason     text NOT NULL,
    froze      boolean NOT NULL,
    opened_by  text COLLATE "C" NOT NULL,
    opened_at  timestamptz NOT NULL,
    decision   text COLLATE "C" CONSTRAINT dispute_decision CHECK (decision IN ('refunded', 'upheld')),
    note       text,
    decided_by text COLLATE "C",
    decided_at timestamptz,
    CONSTRAINT decided_whole CHECK (num_nulls(decision, note, decided_by, decided_at) IN (0, 4))
);
COMMENT ON TABLE redistribution.dispute IS 'A complaint of a buyer about one listing, at most one each, and what was decided';
COMMENT ON COLUMN redistribution.dispute.froze IS 'Whether the complaint froze the voucher, so that upholding the sale may release it';

INSERT INTO base.move (machine, from_state, to_state) VALUES
    ('listing', 'draft', 'listed'),
    ('listing', 'draft', 'expired'),
    ('listing', 'listed', 'reserved'),
    ('listing', 'listed', 'delisted'),
    ('listing', 'listed', 'expired'),
    ('listing', 'delisted', 'listed'),
    ('listing', 'delisted', 'expired'),
    ('listing', 'reserved', 'listed'),
    ('listing', 'reserved', 'sold'),
    ('listing', 'sold', 'revealed'),
    ('listing', 'sold', 'disputed'),
    ('listing', 'sold', 'closed'),
    ('listing', 'revealed', 'guaranteed'),
    ('listing', 'revealed', 'disputed'),
    ('listing', 'guaranteed', 'closed'),
    ('listing', 'guaranteed', 'disputed'),
    ('listing', 'disputed', 'refunded'),
    ('listing', 'disputed', 'upheld'),
    ('listing', 'upheld', 'closed'),
    ('purchase', 'pending_payment', 'paid'),
    ('purchase', 'pending_payment', 'closed'),
    ('purchase', 'pending_payment', 'refund_due'),
    ('purchase', 'closed', 'paid'),
    ('purchase', 'closed', 'refund_due'),
    ('purchase', 'paid', 'refunded'),
    ('purchase', 'refund_due', 'refunded');

CREATE TRIGGER listing_moves BEFORE UPDATE ON redistribution.listing FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('listing', 'state');
CREATE TRIGGER purchase_moves BEFORE UPDATE ON redistribution.purchase FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION base.guard_move('purchase', 'state');
