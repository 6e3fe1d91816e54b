-- The application's table as the catalog has it; no right on the table itself is needed to see this.
SELECT
    c.oid,
    c.relkind::text,
    c.relrowsecurity AND c.relforcerowsecurity AND NOT (o.rolsuper OR o.rolbypassrls) AS hidden,
    o.rolname::text AS owner,
    pg_has_role(c.relowner, 'USAGE') AS may_install,
    pg_is_in_recovery() AS standby,
    current_setting('server_version_num')::integer AS server_version,
    EXISTS (
        SELECT
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid
        AND i.indisvalid
        AND i.indpred IS NULL
        AND a.attname = %(user_id)s
    ) AS indexed
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_roles AS o ON o.oid = c.relowner
WHERE n.nspname = %(schema)s
AND c.relname = %(table)s
