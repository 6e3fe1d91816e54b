-- All that a change of rows could pass by unseen through: which table has the name, its partitions and whatever inherits from it, our
-- triggers on each, the columns we read, who may see which rows, our functions. A row of the catalog that was changed and changed back shows it
-- by its xmin: so a trigger that was off for a moment is noticed, and a partition that was away.
CREATE FUNCTION creditsd.fingerprint()
RETURNS text
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH RECURSIVE source AS (
        SELECT c.oid, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = {schema_literal}
        AND c.relname = {name_literal}
    ),
    tree AS (
        SELECT s.oid AS relation, NULL::oid AS parent, NULL::text AS since
        FROM source AS s
        UNION
        SELECT i.inhrelid, i.inhparent, concat_ws(' ', i.xmin, i.inhdetachpending)
        FROM tree
        JOIN pg_inherits AS i ON i.inhparent = tree.relation
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE c.relpersistence <> 't' -- nobody but its own session sees what is in it
    ),
    facts AS (
        SELECT
            concat_ws(
                ' ', 'table', s.oid, s.relowner, s.relrowsecurity, s.relforcerowsecurity, s.relpersistence, o.rolsuper, o.rolbypassrls
            ) AS fact
        FROM source AS s
        LEFT JOIN pg_roles AS o ON o.oid = s.relowner
        UNION ALL
        SELECT concat_ws(' ', 'relation', t.relation, t.parent, t.since)
        FROM tree AS t
        UNION ALL
        SELECT concat_ws(' ', 'trigger', g.tgrelid, g.oid, g.tgname, g.tgenabled, g.tgfoid, g.tgtype, g.tgqual::text, g.tgattr, g.xmin)
        FROM pg_trigger AS g
        WHERE g.tgrelid IN (SELECT t.relation FROM tree AS t)
        -- By what they call, not by their names: whoever may put triggers there chooses names, and must not make us recompute everyone.
        AND g.tgfoid IN (SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'creditsd'::regnamespace)
        UNION ALL
        -- TRUNCATE gives a table another file; where no trigger tells of it, this does.
        SELECT concat_ws(' ', 'file', c.oid, c.relfilenode)
        FROM pg_class AS c
        WHERE c.oid IN (SELECT t.relation FROM tree AS t)
        AND NOT EXISTS (
            SELECT
            FROM pg_trigger AS g
            WHERE g.tgrelid = c.oid
            AND g.tgname = 'creditsd_truncate'
            AND g.tgenabled = 'A'
        )
        UNION ALL
        -- A crash empties what is not logged.
        SELECT concat_ws(' ', 'unlogged', c.oid, pg_postmaster_start_time())
        FROM pg_class AS c
        WHERE c.oid IN (SELECT t.relation FROM tree AS t)
        AND c.relpersistence = 'u'
        UNION ALL
        SELECT
            concat_ws(
                ' ', 'column', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated, a.attcollation, a.xmin,
                (SELECT string_agg(concat_ws(' ', e.oid, e.enumlabel), ' ' ORDER BY e.oid) FROM pg_enum AS e WHERE e.enumtypid = a.atttypid)
            )
        FROM pg_attribute AS a
        WHERE a.attrelid = (SELECT s.oid FROM source AS s)
        AND a.attname = ANY ({columns_literal}::name[])
        UNION ALL
        SELECT concat_ws(' ', 'where', {condition_literal})
    )
    SELECT coalesce(md5(string_agg(f.fact, E'\n' ORDER BY f.fact) || creditsd.functions_digest(false)), '')
    FROM facts AS f
$function$;

COMMENT ON FUNCTION creditsd.fingerprint IS
'Condenses all that a change of the table''s rows could pass by unseen through; where it differs from the one noted in reader, everyone is recomputed. Empty where there is no such table.';
