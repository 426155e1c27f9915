-- What vouchers there are (catalogue) and where they are good (places).

CREATE SCHEMA catalogue;

CREATE TABLE catalogue.category (
    code     text COLLATE "C" PRIMARY KEY CHECK (code ~ '^[a-z][a-z0-9_]{1,39}$'),
    zh       text NOT NULL CHECK (zh <> ''),
    en       text NOT NULL CHECK (en <> ''),
    position int GENERATED ALWAYS AS IDENTITY
);
COMMENT ON TABLE catalogue.category IS '品类: a line of trade; adding one is data';

INSERT INTO catalogue.category (code, zh, en) VALUES
    ('supermarket', '商超', 'Supermarket'),
    ('liquor', '酒水', 'Liquor'),
    ('restaurant', '餐饮', 'Restaurant'),
    ('travel', '出行旅游', 'Travel'),
    ('ecommerce_code', '电商卡密', 'E-commerce code'),
    ('fuel', '加油', 'Fuel');

CREATE TABLE catalogue.issuer (
    id           text COLLATE "C" PRIMARY KEY CHECK (id LIKE 'iss\_%'),
    zh           text NOT NULL CHECK (zh <> ''),
    en           text NOT NULL CHECK (en <> ''),
    connector    text COLLATE "C" NOT NULL CHECK (connector ~ '^[a-z][a-z0-9_]{1,39}$'),
    capabilities text[] NOT NULL CONSTRAINT issuer_capabilities
                 CHECK (capabilities <@ ARRAY['verify', 'lock', 'redeem', 'rekey', 'extend']),
    base_url_key text COLLATE "C",
    created_at   timestamptz NOT NULL,
    CONSTRAINT issuer_address CHECK ((connector = 'registry') = (base_url_key IS NULL))
);
COMMENT ON TABLE catalogue.issuer IS '发行方: who issues vouchers and how to reach them';
COMMENT ON COLUMN catalogue.issuer.base_url_key IS 'The setting that holds the address of the issuer';

CREATE TABLE catalogue.brand (
    id         text COLLATE "C" PRIMARY KEY CHECK (id LIKE 'brd\_%'),
    zh         text NOT NULL CHECK (zh <> ''),
    en         text NOT NULL CHECK (en <> ''),
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE catalogue.brand IS '品牌: the name on the voucher';

CREATE TABLE catalogue.product (
    id               text COLLATE "C" PRIMARY KEY CHECK (id LIKE 'vpr\_%'),
    issuer_id        text COLLATE "C" NOT NULL REFERENCES catalogue.issuer,
    brand_id         text COLLATE "C" NOT NULL REFERENCES catalogue.brand,
    category         text COLLATE "C" NOT NULL REFERENCES catalogue.category,
    zh               text NOT NULL CHECK (zh <> ''),
    en               text NOT NULL CHECK (en <> ''),
    legal_class      text COLLATE "C" NOT NULL CONSTRAINT product_legal_class CHECK (legal_class IN (
                         'marketing_coupon', 'goods_voucher', 'single_purpose_bearer',
                         'single_purpose_registered', 'multi_purpose', 'foreign_brand_gift_code')),
    multi_draw       boolean NOT NULL,
    face_values_fen  bigint[] NOT NULL CHECK (cardinality(face_values_fen) > 0 AND 0 < ALL (face_values_fen)),
    code_prefix      text COLLATE "C" NOT NULL,
    code_alphabet    text COLLATE "C" NOT NULL,
    code_body_length int NOT NULL CHECK (code_body_length BETWEEN 1 AND 64),
    code_check       text COLLATE "C" NOT NULL CONSTRAINT product_code_check CHECK (code_check IN (
                         'none', 'luhn', 'iso7064_mod37_36', 'iso7064_mod97_10')),
    fee_bps          int NOT NULL CONSTRAINT product_fee CHECK (fee_bps BETWEEN 800 AND 1200),
    days_from_issue  int CHECK (days_from_issue > 0),
    last_day         date,
    region_codes     text[] NOT NULL,
    store_ids        text[] NOT NULL,
    status           text COLLATE "C" NOT NULL CONSTRAINT product_status
                     CHECK (status IN ('active', 'suspended', 'retired')),
    version          int NOT NULL CHECK (version > 0),
    created_at       timestamptz NOT NULL,
    CONSTRAINT product_validity CHECK (days_from_issue IS NULL OR last_day IS NULL)
);
COMMENT ON TABLE catalogue.product IS '券种: a kind of voucher, its law, code format, fee and reach';
COMMENT ON COLUMN catalogue.product.region_codes IS 'GB/T 2260 codes where it is good; empty: everywhere';
COMMENT ON COLUMN catalogue.product.store_ids IS 'Stores where it is good; empty: all stores of the regions';

INSERT INTO base.data_version VALUES ('catalogue', 1);
CREATE TRIGGER bump_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON catalogue.category
    FOR EACH STATEMENT EXECUTE FUNCTION base.bump_version('catalogue');
CREATE TRIGGER bump_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON catalogue.issuer
    FOR EACH STATEMENT EXECUTE FUNCTION base.bump_version('catalogue');
CREATE TRIGGER bump_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON catalogue.brand
    FOR EACH STATEMENT EXECUTE FUNCTION base.bump_version('catalogue');
CREATE TRIGGER bump_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON catalogue.product
    FOR EACH STATEMENT EXECUTE FUNCTION base.bump_version('catalogue');

CREATE SCHEMA places;

CREATE TABLE places.region (
    code        text COLLATE "C" PRIMARY KEY CHECK (code ~ '^[1-9][0-9]{5}$'),
    parent_code text COLLATE "C" REFERENCES places.region,
    level       text COLLATE "C" NOT NULL CONSTRAINT region_level
                CHECK (level IN ('province', 'city', 'district')),
    zh          text NOT NULL CHECK (zh <> ''),
    CONSTRAINT region_parent CHECK ((level = 'province') = (parent_code IS NULL))
);
COMMENT ON TABLE places.region IS '行政区划: provinces, cities and districts by GB/T 2260 code';
CREATE INDEX region_children ON places.region (parent_code, code);

CREATE TABLE places.merchant (
    id         text COLLATE "C" PRIMARY KEY CHECK (id LIKE 'mer\_%'),
    zh         text NOT NULL CHECK (zh <> ''),
    en         text NOT NULL CHECK (en <> ''),
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE places.merchant IS '商户: who runs stores and takes vouchers';

CREATE TABLE places.store (
    id          text COLLATE "C" PRIMARY KEY CHECK (id LIKE 'sto\_%'),
    merchant_id text COLLATE "C" NOT NULL REFERENCES places.merchant,
    region_code text COLLATE "C" NOT NULL REFERENCES places.region,
    zh          text NOT NULL CHECK (zh <> ''),
    address     text NOT NULL CHECK (address <> ''),
    kind        text COLLATE "C" NOT NULL CONSTRAINT store_kind CHECK (kind IN (
                    'hypermarket', 'supermarket', 'convenience', 'restaurant', 'liquor_shop',
                    'fuel_station', 'travel_agency')),
    lon         double precision NOT NULL CHECK (lon BETWEEN -180 AND 180),
    lat         double precision NOT NULL CHECK (lat BETWEEN -90 AND 90),
    opens       time NOT NULL,
    closes      time NOT NULL,
    created_at  timestamptz NOT NULL
);
COMMENT ON TABLE places.store IS '门店: where a voucher is spent; WGS-84 degrees, local opening hours';
CREATE INDEX store_location ON places.store USING gist (point(lon, lat));
CREATE INDEX store_region ON places.store (region_code, id);
CREATE INDEX store_merchant ON places.store (merchant_id, id);

CREATE TABLE places.desk (
    id         text COLLATE "C" PRIMARY KEY CHECK (id LIKE 'dsk\_%'),
    store_id   text COLLATE "C" NOT NULL REFERENCES places.store,
    zh         text NOT NULL CHECK (zh <> ''),
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE places.desk IS '服务台: a counter in a store where staff buy vouchers back';
CREATE INDEX desk_store ON places.desk (store_id, id);

CREATE FUNCTION places.distance_m(
    lon_a double precision, lat_a double precision, lon_b double precision, lat_b double precision
) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 2 * 6371008.8 * asin(least(1, sqrt(
        sin(radians(lat_b - lat_a) / 2) ^ 2
        + cos(radians(lat_a)) * cos(radians(lat_b)) * sin(radians(lon_b - lon_a) / 2) ^ 2)))
$$;
COMMENT ON FUNCTION places.distance_m IS 'Great-circle metres (haversine) on a sphere of the mean radius of the Earth';
