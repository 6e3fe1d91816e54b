-- Row level security shows each signed-in user their own rows, and keeps whoever may read all data from a dump: so it is turned on once
-- somebody is let in. Waits for the tables no longer than lock_timeout says, and fails where they are not free by then.
CREATE FUNCTION creditsd.guard()
RETURNS text[]
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    unguarded text[];
    let_in text[];
    relation text;
BEGIN
    SELECT array_agg(c.relname ORDER BY c.relname)
    INTO unguarded
    FROM pg_class AS c
    WHERE c.relnamespace = 'creditsd'::regnamespace
    AND c.relkind IN ('r', 'p')
    AND (c.relname IN ('balances', 'history', 'history_rest') OR c.relname ~ '^history_\d{{8}}$')
    AND NOT c.relrowsecurity;
    IF unguarded IS NULL THEN
        RETURN '{{}}';
    END IF;
    SELECT array_agg(DISTINCT coalesce(r.rolname::text, 'PUBLIC'))
    INTO let_in
    FROM pg_class AS c
    LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT t.grantee, t.privilege_type FROM aclexplode(c.relacl) AS t
        UNION ALL
        SELECT t.grantee, t.privilege_type FROM aclexplode(a.attacl) AS t
    ) AS granted
    LEFT JOIN pg_roles AS r ON r.oid = granted.grantee
    WHERE c.relnamespace = 'creditsd'::regnamespace
    AND c.relname = ANY (unguarded)
    AND granted.privilege_type = 'SELECT'
    AND granted.grantee <> c.relowner
    AND granted.grantee IS DISTINCT FROM (
        SELECT d.oid
        FROM creditsd.installation AS i
        JOIN pg_roles AS d ON d.rolname = i.role
    );
    IF let_in IS NULL THEN
        RETURN '{{}}';
    END IF;
    FOREACH relation IN ARRAY unguarded LOOP
        EXECUTE format('ALTER TABLE creditsd.%I ENABLE ROW LEVEL SECURITY', relation);
    END LOOP;
    RETURN let_in;
END
$function$;

COMMENT ON FUNCTION creditsd.guard IS
'Turns row level security on for balances and history once a role beside the owner and the daemon''s may read them; returns who may, where it did.';
