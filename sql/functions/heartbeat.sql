-- One query every few seconds: rings the bell for ourselves, and tells which server this is.
CREATE FUNCTION creditsd.heartbeat(proof text)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    -- To ask also frees what every listener has read.
    queue_usage double precision := pg_notification_queue_usage();
    identifier text := '0';
    timeline integer := 0;
BEGIN
    -- A full queue fails every commit that rings, and whoever keeps it from being freed may be anybody in any database.
    IF proof IS NOT NULL AND queue_usage <= 0.5 THEN
        PERFORM pg_notify('creditsd', proof);
    END IF;
    -- Where a service refuses to tell, the server is known by what it does tell.
    BEGIN
        identifier := (SELECT s.system_identifier::text FROM pg_control_system() AS s);
    EXCEPTION
        WHEN insufficient_privilege OR object_not_in_prerequisite_state OR feature_not_supported THEN
            NULL;
    END;
    BEGIN
        timeline := ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer;
    EXCEPTION
        WHEN insufficient_privilege OR object_not_in_prerequisite_state OR feature_not_supported THEN
            NULL;
    END;
    RETURN jsonb_build_object(
        'system_identifier', identifier,
        'timeline', timeline,
        'started_at', pg_postmaster_start_time(),
        'queue_usage', queue_usage
    );
END
$function$;

COMMENT ON FUNCTION creditsd.heartbeat IS
'Rings the bell with a proof (unless null, or the queue is more than half full) that the daemon must hear; returns the server''s identity (0 where it may not be asked), and how full the queue is.';
