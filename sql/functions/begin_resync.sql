-- Everyone again, from the beginning; also restarts one that is under way. One that gives new versions goes on doing so.
CREATE FUNCTION creditsd.begin_resync(cause text, republish boolean DEFAULT false)
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
        resync_republishes = republish OR cause = 'republish' OR (resync_republishes AND resync_cause IS NOT NULL),
        fingerprint = creditsd.fingerprint()
$function$;

COMMENT ON FUNCTION creditsd.begin_resync IS
'Notes that everyone must be recomputed, from the beginning, and how the table is now: what passed by unseen before, the resync finds. With republish, or for that cause, each gets a new version, changed or not.';
