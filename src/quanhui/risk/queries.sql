-- name: read_rules
-- The whole book of rules.
SELECT code, measure, threshold, outcome, shadow, reason_zh, reason_en FROM risk.rule ORDER BY code;

-- name: observe
-- Count submissions for each of their keys and tell what the last hour and day add up to, these included.
-- Of the clock hour before this one, as large a share counts as of it lies within the last sixty minutes.
WITH given AS (
    SELECT key, sum(offers)::int AS offers, sum(refusals)::int AS refusals,
           sum(amount_fen)::bigint AS amount_fen, sum(near_limit)::int AS near_limit
    FROM unnest(:keys::text[], :offers::int[], :refusals::int[], :amounts::bigint[], :near_limits::int[])
        AS g(key, offers, refusals, amount_fen, near_limit)
    GROUP BY key
), counted AS (
    INSERT INTO risk.activity AS a (key, hour, offers, refusals, amount_fen, near_limit)
    SELECT key, date_trunc('hour', :now::timestamptz), offers, refusals, amount_fen, near_limit
    FROM given ORDER BY key
    ON CONFLICT (key, hour) DO UPDATE SET
        offers = a.offers + excluded.offers, refusals = a.refusals + excluded.refusals,
        amount_fen = a.amount_fen + excluded.amount_fen, near_limit = a.near_limit + excluded.near_limit
    RETURNING key, hour, offers, refusals, amount_fen, near_limit
), earlier AS (
    SELECT a.key, a.hour, a.offers, a.refusals, a.amount_fen, a.near_limit
    FROM given g JOIN risk.activity a ON a.key = g.key
    WHERE a.hour > :now::timestamptz - interval '24 hours' AND a.hour < date_trunc('hour', :now::timestamptz)
)
SELECT key,
       floor(sum(refusals * greatest(0, least(1,
           extract(epoch FROM hour + interval '2 hours' - :now::timestamptz) / 3600))))::bigint AS refusals_1h,
       sum(offers)::bigint AS offers_24h, sum(amount_fen)::bigint AS amount_fen_24h,
       sum(near_limit)::bigint AS near_limit_24h
FROM (SELECT * FROM counted UNION ALL SELECT * FROM earlier) AS both_parts
GROUP BY key;

-- name: observe_payees
-- Note who is paid to which account and tell how many different sellers each had in the last day.
WITH given AS (
    SELECT DISTINCT payee_id, seller_id FROM unnest(:payee_ids::text[], :seller_ids::text[]) AS g(payee_id, seller_id)
), noted AS (
    INSERT INTO risk.payee_use (payee_id, seller_id, last_at)
    SELECT payee_id, seller_id, :now FROM given ORDER BY payee_id, seller_id
    ON CONFLICT (payee_id, seller_id) DO UPDATE SET last_at = excluded.last_at
    RETURNING payee_id, seller_id
), recent AS (
    SELECT payee_id, seller_id FROM noted
    UNION
    SELECT u.payee_id, u.seller_id FROM risk.payee_use u
    WHERE u.payee_id = ANY(:payee_ids::text[]) AND u.last_at > :now::timestamptz - interval '24 hours'
)
SELECT payee_id, count(*) AS sellers FROM recent GROUP BY payee_id;

-- name: keep_decisions!
-- Store decisions with their trees.
INSERT INTO risk.decision (id, subject, outcome, tree, rules, at)
SELECT id, subject, outcome, tree::jsonb, :rules, :now
FROM unnest(:ids::text[], :subjects::text[], :outcomes::text[], :trees::text[])
    AS d(id, subject, outcome, tree);

-- name: find_decision^
-- A decision with its tree.
SELECT id, subject, outcome, tree, rules, at FROM risk.decision WHERE id = :id;
