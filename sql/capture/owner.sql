-- All of ours belongs to the owner of the table, whoever installs: what our functions do, and what the table's own triggers do when we
-- expire a row, happens with that role's rights and no others. What somebody else has put beside it is left alone.
DO $do$
DECLARE
    statement text;
    former oid[] := ARRAY[
        (SELECT n.nspowner FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'creditsd'),
        (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)
    ];
    new_owner CONSTANT oid := (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = {owner_literal});
BEGIN
    IF former[1] <> new_owner THEN
        ALTER SCHEMA creditsd OWNER TO {owner};
    END IF;
    FOR statement IN
        SELECT format('ALTER %s creditsd.%I OWNER TO %I', CASE c.relkind WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, c.relname, {owner_literal})
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'creditsd'::regnamespace
        AND c.relkind IN ('r', 'p', 'v', 'c')
        AND c.relowner = ANY (former)
        AND c.relowner <> new_owner
        UNION ALL
        SELECT format('ALTER DOMAIN creditsd.%I OWNER TO %I', t.typname, {owner_literal})
        FROM pg_catalog.pg_type AS t
        WHERE t.typnamespace = 'creditsd'::regnamespace
        AND t.typtype = 'd'
        AND t.typowner = ANY (former)
        AND t.typowner <> new_owner
        UNION ALL
        SELECT format(
            'ALTER FUNCTION creditsd.%I(%s) OWNER TO %I',
            p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid), {owner_literal}
        )
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'creditsd'::regnamespace
        AND p.proowner = ANY (former)
        AND p.proowner <> new_owner
        UNION ALL
        -- Triggers hold on to these, so they outlive an upgrade, and with them what an older one granted.
        SELECT format('REVOKE ALL ON FUNCTION creditsd.%I FROM %I', p.proname, pg_catalog.pg_get_userbyid(a.grantee))
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
        WHERE p.pronamespace = 'creditsd'::regnamespace
        AND p.prorettype = 'trigger'::regtype
        AND a.grantee NOT IN (0, p.proowner, new_owner)
    LOOP
        EXECUTE statement;
    END LOOP;
END
$do$;
