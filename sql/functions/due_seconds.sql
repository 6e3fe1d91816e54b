-- The expiry timer: how long until time alone changes a total. Called by functions that have set what they need.
CREATE FUNCTION creditsd.due_seconds()
RETURNS double precision
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT extract(epoch FROM b.recheck_at - clock_timestamp())::double precision
    FROM creditsd.balances AS b
    WHERE b.recheck_at IS NOT NULL
    ORDER BY b.recheck_at
    LIMIT 1
$function$;

COMMENT ON FUNCTION creditsd.due_seconds IS
'Seconds of the server''s clock until the earliest recheck_at; negative when it has passed, null when there is none.';
