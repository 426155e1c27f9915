-- name: read_rates
-- The whole table of rates, most days first within each product.
SELECT category, product_id, min_days_left, value_bps, spread_bps
FROM valuation.rate ORDER BY category, product_id, min_days_left DESC;
