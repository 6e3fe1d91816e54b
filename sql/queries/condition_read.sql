-- source.where as PostgreSQL has read it: how it writes it out where pg_catalog alone is searched; the columns it reads; and what it may
-- not have: what else of a row it reads, what of it speaks of the clock, what is volatile, what belongs to
-- somebody who could not act as the table's owner otherwise, and what that one may not call. Functions are found by the ids in the parse tree.
WITH read AS (
    SELECT c.conrelid, c.conkey, c.conbin, c.conbin::text AS tree
    FROM pg_constraint AS c
    WHERE c.conrelid = {copy_literal}::regclass
    AND c.conname = 'condition'
),
called AS (
    SELECT p.oid, p.oid::regprocedure::text AS name, p.proname, p.pronargs, p.provolatile, p.proowner, p.pronamespace
    FROM pg_proc AS p
    WHERE p.oid IN (
        SELECT found.id[1]::oid
        FROM read AS r
        CROSS JOIN regexp_matches(r.tree, ':(?:op)?funcid (\d+)', 'g') AS found (id)
    )
),
owner AS (
    SELECT o.oid, o.rolname
    FROM pg_roles AS o
    WHERE o.rolname = {owner_literal}
)
SELECT
    pg_get_expr(r.conbin, r.conrelid) AS expression,
    ARRAY(
        SELECT a.attname::text
        FROM pg_attribute AS a
        WHERE a.attrelid = r.conrelid
        AND a.attnum = ANY (r.conkey)
        ORDER BY a.attnum
    ) AS columns,
    r.tree ~ ':varattno (0|-\d+) ' AS reads_more,
    array_remove(
        ARRAY(
            SELECT f.name
            FROM called AS f
            WHERE f.pronamespace = 'pg_catalog'::regnamespace
            AND (
                f.proname IN ('now', 'transaction_timestamp', 'statement_timestamp', 'clock_timestamp', 'timeofday')
                OR (f.proname = 'age' AND f.pronargs = 1 AND f.name ~ 'timestamp')
            )
        )
        -- In the order of PostgreSQL's own enumeration; those after it tell who and where, not when.
        || ARRAY(
            SELECT (
                ARRAY[
                    'current_date', 'current_time', 'current_time', 'current_timestamp', 'current_timestamp',
                    'localtime', 'localtime', 'localtimestamp', 'localtimestamp'
                ]
            )[found.op[1]::integer + 1]
            FROM regexp_matches(r.tree, '\{SQLVALUEFUNCTION :op (\d+)', 'g') AS found (op)
        ),
        NULL
    ) AS clocks,
    ARRAY(SELECT f.name FROM called AS f WHERE f.provolatile = 'v') AS volatile,
    ARRAY(
        SELECT f.name || ', which belongs to ' || pg_get_userbyid(f.proowner)
        FROM called AS f
        CROSS JOIN owner AS o
        WHERE NOT pg_has_role(f.proowner, o.oid, 'MEMBER')
    ) AS strangers,
    ARRAY(
        SELECT f.name
        FROM called AS f
        CROSS JOIN owner AS o
        WHERE NOT has_function_privilege(o.oid, f.oid, 'EXECUTE')
    ) AS forbidden,
    r.tree ~ ':resulttype (1082|1083|1114|1184|1266) ' AS reads_words_as_times
FROM read AS r
