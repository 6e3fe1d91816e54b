-- Everyone again, from the beginning; also restarts one that is under way.
CREATE FUNCTION creditsd.begin_resync(cause text)
RETURNS void
LANGUAGE sql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    UPDATE creditsd.reader
    SET resync_cause = cause,
        resync_after = NULL,
        resync_users = 0,
        fingerprint = creditsd.fingerprint()
$function$;

COMMENT ON FUNCTION creditsd.begin_resync IS 'Notes that everyone must be recomputed, from the beginning, and how the table is now: what it has lost before, the resync finds.';
