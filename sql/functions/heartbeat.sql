-- One query twice a minute: rings the bell for ourselves, and tells which server this is.
CREATE FUNCTION creditsd.heartbeat(proof text)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF proof IS NOT NULL THEN
        PERFORM pg_notify('creditsd', proof);
    END IF;
    RETURN jsonb_build_object(
        'system_identifier', (SELECT s.system_identifier::text FROM pg_control_system() AS s),
        'timeline', ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer,
        'started_at', pg_postmaster_start_time()
    );
END
$function$;

COMMENT ON FUNCTION creditsd.heartbeat IS
'Rings the bell with a proof (unless null) that the daemon must hear; returns the server''s identity.';
