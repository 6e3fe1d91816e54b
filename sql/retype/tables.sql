-- The ids of the application's table have another type, or another order: those in our tables follow. What cannot be one of the new ids goes; where
-- two become one, the newer stays. Before it, our functions are gone, and after it they are made anew.
DROP VIEW IF EXISTS creditsd.source;
DROP FUNCTION IF EXISTS creditsd.source_rows;
DROP POLICY balances_own ON creditsd.balances;
DROP POLICY history_own ON creditsd.history;
DROP FUNCTION creditsd.signed_in;
DROP DOMAIN creditsd.user_id;

CREATE FUNCTION creditsd.as_user_id(given text)
RETURNS {user_id_type}
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN given::{user_id_type};
EXCEPTION
    WHEN data_exception THEN
        RETURN NULL;
END
$function$;

DO $do$
DECLARE
    relation text;
    beside text;
    newest text;
BEGIN
    FOR relation, beside, newest IN
        SELECT
            format('creditsd.%I', c.relname),
            (
                SELECT string_agg(format(', %I', k.attname), '' ORDER BY k.attnum) || ' '
                FROM pg_attribute AS k
                WHERE k.attrelid = c.oid
                AND k.attnum = ANY (i.indkey::smallint[])
                AND k.attname <> 'user_id'
            ),
            CASE WHEN i.indexrelid IS NOT NULL THEN
                CASE WHEN EXISTS (SELECT FROM pg_attribute AS v WHERE v.attrelid = c.oid AND v.attname = 'version') THEN 'version' ELSE 'ctid' END
            END
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'user_id'
        LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisunique AND a.attnum = ANY (i.indkey::smallint[])
        WHERE n.nspname = 'creditsd'
        AND c.relowner = n.nspowner
        AND c.relkind IN ('r', 'p')
        AND NOT c.relispartition
        AND c.relname <> 'changes'
    LOOP
        EXECUTE format('DELETE FROM %s WHERE creditsd.as_user_id(user_id::text) IS NULL', relation);
        IF newest IS NOT NULL THEN
            EXECUTE format(
                'DELETE FROM %1$s WHERE ctid IN (
                    SELECT e.ctid
                    FROM (
                        SELECT ctid, row_number() OVER (PARTITION BY creditsd.as_user_id(user_id::text)%2$s ORDER BY %3$s DESC) AS place
                        FROM %1$s
                    ) AS e
                    WHERE e.place > 1
                )',
                relation, coalesce(beside, ''), newest
            );
        END IF;
        EXECUTE format(
            'ALTER TABLE %s ALTER COLUMN user_id TYPE {user_id_type}{user_id_collation} USING user_id::text::{user_id_type}', relation
        );
    END LOOP;
END
$do$;

DROP FUNCTION creditsd.as_user_id;

CREATE DOMAIN creditsd.user_id AS {user_id_type}{user_id_collation};

COMMENT ON DOMAIN creditsd.user_id IS 'The type of a user''s id, as the application''s table has it.';

-- Everyone is looked at again, from the beginning. This comes last, because whoever writes to the application's table waits for it.
UPDATE creditsd.reader SET resync_after = NULL;

TRUNCATE creditsd.changes;

ALTER TABLE creditsd.changes
    ALTER COLUMN user_id TYPE {user_id_type}{user_id_collation} USING user_id::text::{user_id_type};
