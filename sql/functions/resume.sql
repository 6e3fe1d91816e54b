-- Where to go on after a start or a reconnect, and whether everyone or somebody must be looked at again.
CREATE FUNCTION creditsd.resume(policy_now text)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    known creditsd.reader;
    beat jsonb := creditsd.heartbeat(NULL);
    here pg_snapshot := pg_current_snapshot();
    reason text;
    restarted boolean := false;
BEGIN
    SELECT r.* INTO known FROM creditsd.reader AS r;
    IF NOT FOUND THEN
        reason := 'first start';
    ELSIF known.system_identifier::text <> beat ->> 'system_identifier' THEN
        reason := 'another server';
    ELSIF pg_snapshot_xmax(known.snapshot) > pg_snapshot_xmax(here) THEN
        reason := 'cursor in the future';
    ELSIF known.policy <> policy_now THEN
        reason := 'policy changed';
    ELSIF known.fingerprint <> creditsd.fingerprint() THEN
        reason := 'table changed';
    END IF;
    restarted := known.started_at IS NOT NULL AND (
        known.started_at <> (beat ->> 'started_at')::timestamptz
        OR known.timeline <> (beat ->> 'timeline')::integer
    );
    IF known.snapshot IS NULL OR reason IN ('another server', 'cursor in the future') THEN
        -- Transaction numbers of another history say nothing here: forget what they marked, everyone is looked at.
        DELETE FROM creditsd.changes;
        DELETE FROM creditsd.resyncs;
        DELETE FROM creditsd.reader;
        INSERT INTO creditsd.reader (
            snapshot, purged, system_identifier, timeline, started_at, policy, fingerprint
        )
        VALUES (
            here, here, (beat ->> 'system_identifier')::bigint, (beat ->> 'timeline')::integer,
            (beat ->> 'started_at')::timestamptz, policy_now, ''
        );
    ELSE
        UPDATE creditsd.reader
        SET policy = policy_now;
    END IF;
    IF reason IS NOT NULL THEN
        PERFORM creditsd.begin_resync(reason);
    END IF;
    RETURN (
        SELECT jsonb_build_object(
            'snapshot', r.snapshot,
            'resyncing', r.resync_cause,
            'resynced_after', r.resync_after,
            'restarted', restarted,
            'newest', coalesce((SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1), 0)
        ) || beat
        FROM creditsd.reader AS r
    );
END
$function$;

COMMENT ON FUNCTION creditsd.resume IS
'Loads the cursor, begins a resync where the text of the policy, the table or the server''s history differ from those noted, and tells whether the server restarted since.';
