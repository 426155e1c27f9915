-- name: find_actor^
-- Who holds this token, with the grants of their role; marks the session used, at most once an hour.
WITH touched AS (
    UPDATE base.session SET last_used_at = :now
    WHERE token_hash = :token_hash AND revoked_at IS NULL AND expires_at > :now
      AND last_used_at < :now::timestamptz - interval '1 hour'
)
SELECT s.id AS session_id, c.id, s.acts_for, g.permissions, g.scopes
FROM base.session s
JOIN customers.customer c ON c.id = s.actor_id AND c.status = 'active'
CROSS JOIN LATERAL (
    SELECT array_agg(permission) AS permissions, array_agg(scope) AS scopes
    FROM base.role_grant
    WHERE role = CASE WHEN s.acts_for IS NULL THEN 'customer' ELSE 'enterprise_member' END) g
WHERE s.token_hash = :token_hash AND s.kind = 'customer' AND s.revoked_at IS NULL AND s.expires_at > :now
  AND (s.acts_for IS NULL OR EXISTS (
      SELECT FROM customers.enterprise_member m
      JOIN customers.enterprise e ON e.id = m.enterprise_id AND e.status = 'active'
      WHERE m.enterprise_id = s.acts_for AND m.customer_id = c.id));

-- name: add_customers!
-- Open accounts for phone numbers that have none.
INSERT INTO customers.customer (id, phone_fingerprint, key_version, box, created_at)
SELECT n.id, n.phone_fingerprint, n.key_version, n.box, :now
FROM unnest(:ids::text[], :phone_fingerprints::bytea[], :key_versions::int[], :boxes::bytea[])
     AS n(id, phone_fingerprint, key_version, box)
ORDER BY n.phone_fingerprint
ON CONFLICT (phone_fingerprint) DO NOTHING;

-- name: find_by_phones
-- Customers by phone fingerprint.
SELECT * FROM customers.customer WHERE phone_fingerprint = ANY(:phone_fingerprints::bytea[]);

-- name: find_customers
-- Customers by id.
SELECT * FROM customers.customer WHERE id = ANY(:ids::text[]);

-- name: lock_customer^
-- One customer, locked for a change.
SELECT * FROM customers.customer WHERE id = :id FOR UPDATE;

-- name: store_person!
-- Write the private part of a customer back, with how well we know them.
UPDATE customers.customer
SET key_version = :key_version, box = :box, identity_level = :identity_level, verified_at = :verified_at,
    id_number_fingerprint = :id_number_fingerprint, elder_mode = :elder_mode
WHERE id = :id;

-- name: set_status
-- Suspend or reinstate accounts; returns those that changed.
UPDATE customers.customer SET status = :status
WHERE status <> :status AND id IN (
    SELECT id FROM customers.customer WHERE id = ANY(:ids::text[]) ORDER BY id FOR UPDATE)
RETURNING id;

-- name: put_code!
-- The newest code of a phone number replaces the one before.
INSERT INTO customers.sign_in_code AS c (phone_fingerprint, id, code_mac, expires_at)
VALUES (:phone_fingerprint, :id, :code_mac, :expires_at)
ON CONFLICT (phone_fingerprint) DO UPDATE
SET id = excluded.id, code_mac = excluded.code_mac, tries = 0, expires_at = excluded.expires_at;

-- name: try_code^
-- Count one try of the live code of a phone number; nothing when it is gone, late, or tried too often.
UPDATE customers.sign_in_code SET tries = tries + 1
WHERE phone_fingerprint = :phone_fingerprint AND expires_at > :now AND tries < :most_tries
RETURNING id, code_mac;

-- name: spend_code!
-- A code works once.
DELETE FROM customers.sign_in_code WHERE phone_fingerprint = :phone_fingerprint;

-- name: forget_codes$
-- Drop codes that nobody used.
WITH gone AS (DELETE FROM customers.sign_in_code WHERE expires_at < :before RETURNING 1)
SELECT count(*) FROM gone;

-- name: add_payee!
-- Keep a payee account; one that the customer already has stays as it is.
INSERT INTO customers.payee (id, customer_id, kind, account_fingerprint, tail, key_version, box, created_at)
VALUES (:id, :customer_id, :kind, :account_fingerprint, :tail, :key_version, :box, :now)
ON CONFLICT (customer_id, account_fingerprint) WHERE closed_at IS NULL DO NOTHING;

-- name: find_payees
-- Payee accounts by id, closed ones too: a payout under way still needs them.
SELECT * FROM customers.payee WHERE id = ANY(:ids::text[]);

-- name: list_payees
-- The open payee accounts of a customer, newest first.
SELECT * FROM customers.payee WHERE customer_id = :customer_id AND closed_at IS NULL ORDER BY id DESC;

-- name: close_payee$
-- Close an account of this customer; its id when there was one.
UPDATE customers.payee SET closed_at = :now
WHERE id = :id AND customer_id = :customer_id AND closed_at IS NULL
RETURNING id;

-- name: withdraw_consents!
-- End the live consent of a customer for a purpose.
UPDATE customers.consent SET withdrawn_at = :now
WHERE customer_id = :customer_id AND purpose = :purpose AND withdrawn_at IS NULL;

-- name: add_consent!
-- Record a consent.
INSERT INTO customers.consent (id, customer_id, purpose, version, given_at)
VALUES (:id, :customer_id, :purpose, :version, :now);

-- name: list_consents
-- Consents of a customer, newest first, after a cursor.
SELECT id, purpose, version, given_at, withdrawn_at FROM customers.consent
WHERE customer_id = :customer_id AND (:before::text IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit;

-- name: find_consenting
-- Those of these customers whose consent for a purpose is live.
SELECT customer_id FROM customers.consent
WHERE customer_id = ANY(:customer_ids::text[]) AND purpose = :purpose AND withdrawn_at IS NULL;

-- name: add_enterprise$
-- Register a company; its id, or nothing when its credit code is known.
INSERT INTO customers.enterprise (id, credit_code, name, created_at)
VALUES (:id, :credit_code, :name, :now)
ON CONFLICT (credit_code) DO NOTHING
RETURNING id;

-- name: find_enterprises
-- Companies by id.
SELECT * FROM customers.enterprise WHERE id = ANY(:ids::text[]);

-- name: list_enterprises_of
-- Companies a customer may act for.
SELECT e.* FROM customers.enterprise e
JOIN customers.enterprise_member m ON m.enterprise_id = e.id
WHERE m.customer_id = :customer_id AND e.status = 'active'
ORDER BY e.id;

-- name: put_member$
-- Let a customer act for a company, or change what they are to it; nothing when either is unknown.
INSERT INTO customers.enterprise_member AS m (enterprise_id, customer_id, role)
SELECT e.id, c.id, :role FROM customers.enterprise e, customers.customer c
WHERE e.id = :enterprise_id AND c.id = :customer_id
ON CONFLICT (enterprise_id, customer_id) DO UPDATE SET role = excluded.role
RETURNING m.customer_id;

-- name: remove_member$
-- Stop a customer acting for a company.
DELETE FROM customers.enterprise_member WHERE enterprise_id = :enterprise_id AND customer_id = :customer_id
RETURNING customer_id;

-- name: is_member$
-- Whether a customer may act for a company.
SELECT EXISTS (
    SELECT FROM customers.enterprise_member m
    JOIN customers.enterprise e ON e.id = m.enterprise_id AND e.status = 'active'
    WHERE m.enterprise_id = :enterprise_id AND m.customer_id = :customer_id);
