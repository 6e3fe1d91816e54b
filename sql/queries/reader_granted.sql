-- Whether the role of the signed-in users may read what it needs; no row where there is no such role.
SELECT
    has_schema_privilege(r.oid, 'creditsd', 'USAGE')
    AND has_table_privilege(r.oid, 'creditsd.balances', 'SELECT')
    AND has_table_privilege(r.oid, 'creditsd.history', 'SELECT')
FROM pg_roles AS r
WHERE r.rolname = %(reader)s
