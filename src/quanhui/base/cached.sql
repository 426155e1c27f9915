-- name: version$
-- How often a table kept in memory has changed.
SELECT version FROM base.data_version WHERE name = :name;
