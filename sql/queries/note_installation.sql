-- The one row that says what is installed.
INSERT INTO creditsd.installation (migration, digest, source, role)
VALUES ({migration}, {digest}, {source}::jsonb, {role})
ON CONFLICT (single) DO UPDATE
SET migration = excluded.migration,
    digest = excluded.digest,
    source = excluded.source,
    role = excluded.role,
    installed_at = now()
