-- name: set_routes!
-- Make the routing table exactly what story.py says. Jobs already written keep their subscriber.
WITH wanted AS (
    SELECT * FROM unnest(:topics::text[], :subscribers::text[]) AS w(topic, subscriber)
), gone AS (
    DELETE FROM base.route r WHERE NOT EXISTS (
        SELECT FROM wanted w WHERE w.topic = r.topic AND w.subscriber = r.subscriber)
)
INSERT INTO base.route (topic, subscriber) SELECT topic, subscriber FROM wanted
ON CONFLICT DO NOTHING;

-- name: emit!
-- One job for each subscriber of each fact, in the order given.
INSERT INTO base.job (topic, subscriber, subject, payload, available_at, created_at)
SELECT f.topic, r.subscriber, f.subject, f.payload::jsonb, :now, :now
FROM unnest(:topics::text[], :subjects::text[], :payloads::text[])
     WITH ORDINALITY AS f(topic, subject, payload, position)
JOIN base.route r ON r.topic = f.topic
ORDER BY f.position, r.subscriber;

-- name: due
-- Subscribers with something to do, found by one index probe each.
SELECT s.subscriber
FROM (SELECT DISTINCT subscriber FROM base.route) s
WHERE EXISTS (
    SELECT FROM base.job j
    WHERE j.subscriber = s.subscriber AND j.dead_at IS NULL AND j.available_at <= :now);

-- name: take
-- Lease the oldest due jobs; rows another worker is taking are passed over.
UPDATE base.job SET lease = :lease, available_at = :lease_until
WHERE id IN (
    SELECT id FROM base.job
    WHERE subscriber = :subscriber AND dead_at IS NULL AND available_at <= :now
    ORDER BY available_at, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED)
RETURNING id, topic, subject, payload, attempts;

-- name: finish$
-- Remove finished jobs that are still under our lease; the count tells whether they all were.
WITH gone AS (DELETE FROM base.job WHERE id = ANY(:ids::bigint[]) AND lease = :lease RETURNING 1)
SELECT count(*) FROM gone;

-- name: postpone!
-- Give the lease back; the jobs come up again at the given moment.
UPDATE base.job SET lease = NULL, available_at = :until
WHERE id = ANY(:ids::bigint[]) AND lease = :lease;

-- name: fail!
-- Count a failure, wait, and after the last attempt lay the job among the dead letters.
UPDATE base.job j
SET attempts = j.attempts + 1, lease = NULL, last_error = :error, available_at = f.available_at,
    dead_at = CASE WHEN j.attempts + 1 >= :max_attempts::int THEN :now::timestamptz END
FROM unnest(:ids::bigint[], :available_at::timestamptz[]) AS f(id, available_at)
WHERE j.id = f.id AND j.lease = :lease;

-- name: revive$
-- Put dead letters back with a fresh count of attempts.
WITH back AS (
    UPDATE base.job SET dead_at = NULL, attempts = 0, available_at = :now
    WHERE dead_at IS NOT NULL AND (:subscriber::text IS NULL OR subscriber = :subscriber)
    RETURNING 1)
SELECT count(*) FROM back;

-- name: backlog
-- How many jobs wait, are dead, and how old the oldest is, for each subscriber.
SELECT subscriber, count(*) FILTER (WHERE dead_at IS NULL) AS waiting,
       count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead, min(created_at) AS oldest_at
FROM base.job GROUP BY subscriber ORDER BY subscriber;

-- name: take_chore$
-- Claim a chore that is due by moving its time on: one process gets it.
INSERT INTO base.chore AS c (name, next_at) VALUES (:name, :next_at)
ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at WHERE c.next_at <= :now
RETURNING true;

-- name: dead_letters
-- Jobs that were given up, newest first.
SELECT id, topic, subscriber, subject, attempts, last_error, dead_at FROM base.job
WHERE dead_at IS NOT NULL AND (:before::bigint IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;
