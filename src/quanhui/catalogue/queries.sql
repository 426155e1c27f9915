-- name: all_categories
-- Every category in the order of its making.
SELECT code, zh, en FROM catalogue.category ORDER BY position;

-- name: all_issuers
-- Every issuer.
SELECT id, zh, en, connector, capabilities, base_url_key FROM catalogue.issuer ORDER BY id;

-- name: all_brands
-- Every brand.
SELECT id, zh, en FROM catalogue.brand ORDER BY id;

-- name: all_products
-- Every product, whatever its status.
SELECT id, issuer_id, brand_id, category, zh, en, legal_class, multi_draw, face_values_fen,
       code_prefix, code_alphabet, code_body_length, code_check, fee_bps, days_from_issue, last_day,
       region_codes, store_ids, status, version
FROM catalogue.product ORDER BY id;

-- name: set_status^
-- Give a product another status and count the change of the row.
UPDATE catalogue.product SET status = :status, version = version + 1
WHERE id = :id RETURNING version;
