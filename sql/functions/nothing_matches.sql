-- For whoever installs: a condition that leaves every row out is allowed, and hardly meant.
CREATE FUNCTION creditsd.nothing_matches()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $function$
BEGIN
    RETURN EXISTS (SELECT FROM {table}) AND NOT EXISTS (
        SELECT
        FROM (
{source}
        ) AS line
        WHERE NOT line.left_out
    );
EXCEPTION
    WHEN OTHERS THEN
        RETURN false; -- of some row it cannot be said: whose that is, the recompute of everyone tells
END
$function$;

COMMENT ON FUNCTION creditsd.nothing_matches IS
'Whether the table has rows, and source.where leaves all of them out. Reads the whole table where it does.';
