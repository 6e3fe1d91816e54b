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
    RETURN (
        SELECT coalesce(bool_or(line.left_out), false) AND NOT coalesce(bool_or(line.active), false)
        FROM (
{source}
        ) AS line
    );
EXCEPTION
    WHEN data_exception OR program_limit_exceeded OR syntax_error OR invalid_name THEN
        RETURN false; -- of some row it cannot be said: whose that is, the recompute of everyone tells
END
$function$;

COMMENT ON FUNCTION creditsd.nothing_matches IS
'Whether source.where leaves rows out, and no row counts. Reads the whole table.';
