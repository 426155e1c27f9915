-- name: find_regions
-- The regions directly within another, or the provinces, by code.
SELECT code, parent_code, level, zh FROM places.region
WHERE parent_code IS NOT DISTINCT FROM :parent_code::text
ORDER BY code;

-- name: get_merchants
-- Merchants by id.
SELECT id, zh, en FROM places.merchant WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: find_merchants
-- Merchants, newest first, after a cursor.
SELECT id, zh, en FROM places.merchant
WHERE :cursor::text IS NULL OR id < :cursor
ORDER BY id DESC
LIMIT :limit;

-- name: find_stores
-- Stores that match the filters given, newest first, after a cursor. A region is given as the start of its code.
SELECT id, merchant_id, region_code, zh, address, kind, lon, lat, opens, closes
FROM places.store
WHERE (:merchant_id::text IS NULL OR merchant_id = :merchant_id)
  AND (:region_prefix::text IS NULL OR region_code LIKE :region_prefix || '%')
  AND (:kind::text IS NULL OR kind = :kind)
  AND (:text::text IS NULL OR position(lower(:text) IN lower(zh || ' ' || address)) > 0)
  AND (:cursor::text IS NULL OR id < :cursor)
ORDER BY id DESC
LIMIT :limit;

-- name: get_stores
-- Stores by id.
SELECT id, merchant_id, region_code, zh, address, kind, lon, lat, opens, closes
FROM places.store WHERE id = ANY(:ids::text[]) ORDER BY id;

-- name: find_desks
-- The service desks of stores.
SELECT id, store_id, zh FROM places.desk WHERE store_id = ANY(:store_ids::text[]) ORDER BY id;

-- name: stores_near
-- Stores within a radius, nearest first. An index finds those in a box around the circle.
WITH here AS (
    SELECT :lon::float8 AS lon, :lat::float8 AS lat, degrees(:radius_m::float8 / 6371008.8) AS up,
           degrees(asin(least(1, sin(:radius_m::float8 / 6371008.8) / cos(radians(:lat::float8))))) AS aside
), boxed AS (
    SELECT s.*, places.distance_m(here.lon, here.lat, s.lon, s.lat) AS distance_m
    FROM here JOIN places.store s ON point(s.lon, s.lat) <@
         box(point(here.lon - here.aside, here.lat - here.up), point(here.lon + here.aside, here.lat + here.up))
)
SELECT id, merchant_id, region_code, zh, address, kind, lon, lat, opens, closes, distance_m
FROM boxed WHERE distance_m <= :radius_m
ORDER BY distance_m, id
LIMIT :limit;
