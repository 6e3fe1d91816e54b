-- The one row that says what is installed.
INSERT INTO creditsd.installation (migration, digest, source, role, functions)
VALUES ({migration}, {digest}, {source}::jsonb, {role}, creditsd.functions_digest(true))
ON CONFLICT (single) DO UPDATE
SET migration = excluded.migration,
    digest = excluded.digest,
    source = excluded.source,
    role = excluded.role,
    functions = excluded.functions,
    installed_at = now()
