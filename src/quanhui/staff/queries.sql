-- name: find_actor^
-- Who holds this token, with the grants of all their roles; marks the session used, at most once an hour.
WITH touched AS (
    UPDATE base.session SET last_used_at = :now
    WHERE token_hash = :token_hash AND revoked_at IS NULL AND expires_at > :now
      AND last_used_at < :now::timestamptz - interval '1 hour'
)
SELECT s.id AS session_id, o.id, o.store_id, o.merchant_id, g.permissions, g.scopes
FROM base.session s
JOIN staff.operator o ON o.id = s.actor_id AND o.status = 'active'
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(rg.permission), '{}') AS permissions, coalesce(array_agg(rg.scope), '{}') AS scopes
    FROM staff.operator_role r JOIN base.role_grant rg ON rg.role = r.role
    WHERE r.operator_id = o.id) g
WHERE s.token_hash = :token_hash AND s.kind = 'staff' AND s.revoked_at IS NULL AND s.expires_at > :now;

-- name: find_login^
-- What is needed to judge a sign-in.
SELECT id, password_hash, key_version, box, last_totp_step FROM staff.operator
WHERE login = :login AND status = 'active';

-- name: spend_totp_step$
-- A one-time password works once: of two who come with the same, one gets the id.
UPDATE staff.operator SET last_totp_step = :step
WHERE id = :id AND last_totp_step < :step AND status = 'active' AND password_hash = :password_hash
RETURNING id;

-- name: find_staff_roles
-- Roles that staff may hold, with the places that their grants need.
SELECT r.name,
       EXISTS (SELECT FROM base.role_grant g WHERE g.role = r.name AND g.scope = 'store') AS needs_store,
       EXISTS (SELECT FROM base.role_grant g WHERE g.role = r.name AND g.scope = 'merchant') AS needs_merchant
FROM base.role r WHERE r.holder = 'staff';

-- name: list_roles
-- All roles with their grants.
SELECT r.name, r.holder, r.zh, r.en, jsonb_object_agg(g.permission, g.scope) AS grants
FROM base.role r JOIN base.role_grant g ON g.role = r.name
GROUP BY r.name, r.holder, r.zh, r.en ORDER BY r.name;

-- name: add_operator$
-- Add an operator; the id, or nothing when the login is taken.
INSERT INTO staff.operator (id, login, password_hash, key_version, box, store_id, merchant_id, created_at)
VALUES (:id, :login, :password_hash, :key_version, :box, :store_id, :merchant_id, :now)
ON CONFLICT (login) DO NOTHING
RETURNING id;

-- name: add_operator_roles!
-- Give an operator roles.
INSERT INTO staff.operator_role (operator_id, role)
SELECT :operator_id, role FROM unnest(:roles::text[]) AS r(role);

-- name: find_operators
-- Operators by id.
SELECT o.id, o.login, o.key_version, o.box, o.status, o.store_id, o.merchant_id, o.created_at,
       ARRAY(SELECT r.role FROM staff.operator_role r WHERE r.operator_id = o.id ORDER BY r.role) AS roles
FROM staff.operator o WHERE o.id = ANY(:ids::text[]);

-- name: list_operators
-- Operators, newest first, after a cursor.
SELECT o.id, o.login, o.key_version, o.box, o.status, o.store_id, o.merchant_id, o.created_at,
       ARRAY(SELECT r.role FROM staff.operator_role r WHERE r.operator_id = o.id ORDER BY r.role) AS roles
FROM staff.operator o
WHERE :before::text IS NULL OR o.id < :before
ORDER BY o.id DESC LIMIT :limit;

-- name: set_operator_status$
-- Suspend or reinstate an operator; the id, or nothing when there is no such operator.
UPDATE staff.operator SET status = :status WHERE id = :id RETURNING id;

-- name: set_credentials!
-- Replace the password and the private part of an operator. Spent time steps stay spent.
UPDATE staff.operator SET password_hash = :password_hash, key_version = :key_version, box = :box
WHERE id = :id;

-- name: add_audit_entries!
-- Write down what staff did.
INSERT INTO staff.audit_entry (id, actor_id, action, subject, reason, at)
SELECT e.id, e.actor_id, e.action, e.subject, e.reason, :now
FROM unnest(:ids::text[], :actor_ids::text[], :actions::text[], :subjects::text[], :reasons::text[])
     AS e(id, actor_id, action, subject, reason);

-- name: list_audit_entries
-- What staff did, newest first, of one actor or to one subject where asked.
SELECT id, actor_id, action, subject, reason, at FROM staff.audit_entry
WHERE (:before::text IS NULL OR id < :before)
  AND (:actor_id::text IS NULL OR actor_id = :actor_id)
  AND (:subject::text IS NULL OR subject = :subject)
ORDER BY id DESC LIMIT :limit;

-- name: add_partner!
-- Add a partner.
INSERT INTO staff.partner (id, name, enterprise_id, merchant_id, created_at)
VALUES (:id, :name, :enterprise_id, :merchant_id, :now);

-- name: add_partner_key$
-- Add a signing key of a partner; the id, or nothing when there is no such partner.
INSERT INTO staff.partner_key (id, partner_id, key_version, box, created_at)
SELECT :id, p.id, :key_version, :box, :now FROM staff.partner p WHERE p.id = :partner_id
RETURNING id;

-- name: revoke_partner_key$
-- End a signing key; the id, or nothing when there is no such live key.
UPDATE staff.partner_key SET revoked_at = :now
WHERE id = :id AND partner_id = :partner_id AND revoked_at IS NULL
RETURNING id;

-- name: set_partner_status$
-- Suspend or reinstate a partner; the id, or nothing when there is no such partner.
UPDATE staff.partner SET status = :status WHERE id = :id RETURNING id;

-- name: list_partners
-- Partners, newest first, after a cursor.
SELECT id, name, enterprise_id, merchant_id, status, created_at FROM staff.partner
WHERE :before::text IS NULL OR id < :before
ORDER BY id DESC LIMIT :limit;

-- name: find_partner_key^
-- A live key with its partner and what partners may do.
SELECT k.key_version, k.box, p.id, p.enterprise_id, p.merchant_id, g.permissions, g.scopes
FROM staff.partner_key k
JOIN staff.partner p ON p.id = k.partner_id AND p.status = 'active'
CROSS JOIN LATERAL (
    SELECT array_agg(permission) AS permissions, array_agg(scope) AS scopes
    FROM base.role_grant WHERE role = 'partner') g
WHERE k.id = :key_id AND k.revoked_at IS NULL;

-- name: use_message$
-- A signed request works once; nothing when its message id was seen before.
INSERT INTO staff.partner_message (key_id, message_id, seen_at) VALUES (:key_id, :message_id, :now)
ON CONFLICT DO NOTHING
RETURNING message_id;

-- name: forget_messages$
-- Drop message ids whose signatures are too old to pass anyway.
WITH gone AS (DELETE FROM staff.partner_message WHERE seen_at < :before RETURNING 1)
SELECT count(*) FROM gone;
