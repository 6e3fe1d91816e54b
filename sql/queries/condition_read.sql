-- source.where as PostgreSQL has read it: how it writes it out where pg_catalog alone is searched; the columns it reads; and what it may
-- not have: what else of a row it reads, what of it speaks of the clock, and whatever is not an immutable function, operator or type of
-- PostgreSQL's own. Anything else could be replaced later, or by somebody else, and runs as the table's owner. All are found by their ids in the parse tree.
WITH read AS (
    SELECT c.conrelid, c.conkey, c.conbin, c.conbin::text AS tree
    FROM pg_constraint AS c
    WHERE c.conrelid = {copy_literal}::regclass
    AND c.conname = 'condition'
),
called AS (
    SELECT p.oid::regprocedure::text AS name, p.proname, p.pronargs, p.provolatile, p.pronamespace = 'pg_catalog'::regnamespace AS builtin
    FROM pg_proc AS p
    WHERE p.oid IN (
        SELECT found.id[1]::oid
        FROM read AS r
        CROSS JOIN regexp_matches(r.tree, ':(?:op)?funcid (\d+)', 'g') AS found (id)
    )
),
-- What a column is read as is the column's own; every other type is one that something becomes.
types AS (
    SELECT t.oid, t.typtype, t.typnamespace, t.typinput, t.typoutput, found.label = 'vartype' AS read
    FROM (
        SELECT DISTINCT each.part[1] AS label, each.part[2]::oid AS id
        FROM read AS r
        CROSS JOIN regexp_matches(r.tree, ':(\w*typ(?:e|id|eid)) (\d+)', 'g') AS each (part)
    ) AS found
    JOIN pg_type AS t ON t.oid = found.id
),
foreign_types AS (
    SELECT format_type(t.oid, NULL) AS name
    FROM types AS t
    LEFT JOIN pg_type AS e ON e.typarray = t.oid
    WHERE NOT t.read
    AND coalesce(e.typtype, t.typtype) <> 'e'
    AND t.typnamespace <> 'pg_catalog'::regnamespace
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
            WHERE f.builtin
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
    ARRAY(
        SELECT f.name || CASE
            WHEN NOT f.builtin THEN ', which is not PostgreSQL''s own'
            WHEN f.provolatile = 'v' THEN ', which is volatile'
            ELSE ', which depends on settings of the session'
        END
        FROM called AS f
        WHERE NOT f.builtin
        OR f.provolatile <> 'i'
        ORDER BY f.builtin, f.name
    )
    || ARRAY(SELECT t.name || ', a type that is neither PostgreSQL''s own nor an enum' FROM foreign_types AS t ORDER BY t.name)
    || CASE WHEN r.tree ~ '\{SQLVALUEFUNCTION ' THEN ARRAY['what tells who or where somebody is'] ELSE ARRAY[]::text[] END
    || CASE WHEN r.tree ~ '\{COERCETODOMAIN ' THEN ARRAY['a domain, whose checks may be anybody''s'] ELSE ARRAY[]::text[] END
    || CASE
        WHEN r.tree ~ '\{COERCEVIAIO ' AND EXISTS (
            SELECT
            FROM types AS t
            JOIN pg_proc AS p ON p.oid IN (t.typinput, t.typoutput)
            WHERE p.provolatile <> 'i'
        ) THEN ARRAY['what becomes text, or is made of it, by settings of the session, as times do']
        ELSE ARRAY[]::text[]
    END AS unfit,
    r.tree ~ ':resulttype (1082|1083|1114|1184|1266) ' AS reads_words_as_times
FROM read AS r
