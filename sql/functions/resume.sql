-- Where to go on after a start or a reconnect, and whether everyone or somebody must be looked at again.
CREATE FUNCTION creditsd.resume(policy_now text, floor_version bigint)
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
    home_now text := creditsd.home();
    newest_version bigint;
    newest_at timestamptz;
    reason text;
    is_other_history boolean;
    has_failed_over boolean;
BEGIN
    SELECT r.* INTO known FROM creditsd.reader AS r;
    SELECT b.version, b.updated_at
    INTO newest_version, newest_at
    FROM creditsd.balances AS b
    ORDER BY b.version DESC
    LIMIT 1;
    IF known.snapshot IS NULL THEN
        reason := 'first start';
    ELSIF known.system_identifier <> 0
    AND beat ->> 'system_identifier' NOT IN ('0', known.system_identifier::text) THEN
        reason := 'another server';
    ELSIF known.home NOT IN ('', home_now) THEN
        reason := 'restored';
    ELSIF pg_snapshot_xmax(known.snapshot) > pg_snapshot_xmax(here) THEN
        reason := 'cursor in the future';
    ELSIF known.policy <> policy_now THEN
        reason := 'policy changed';
    ELSIF known.fingerprint <> creditsd.fingerprint() THEN
        reason := 'table changed';
    ELSIF GREATEST(known.saved_at, newest_at) > clock_timestamp() + interval '1 second' THEN
        reason := 'clock went back';
    END IF;
    is_other_history := coalesce(reason IN ('another server', 'restored', 'cursor in the future'), false);
    -- A timeline of 0 is one that we may not know.
    has_failed_over := coalesce(known.timeline <> 0 AND beat ->> 'timeline' NOT IN ('0', known.timeline::text), false);
    IF known.snapshot IS NULL OR is_other_history THEN
        -- Transaction numbers of another history say nothing here: forget what they marked, everyone is looked at.
        DELETE FROM creditsd.changes;
        DELETE FROM creditsd.resyncs;
        DELETE FROM creditsd.reader;
        INSERT INTO creditsd.reader (
            snapshot, purged, system_identifier, timeline, started_at, policy, fingerprint, version_floor, home
        )
        VALUES (
            here, here, (beat ->> 'system_identifier')::bigint, (beat ->> 'timeline')::integer,
            (beat ->> 'started_at')::timestamptz, policy_now, '',
            GREATEST(known.version_floor, floor_version), home_now
        );
    ELSE
        UPDATE creditsd.reader
        SET policy = policy_now,
            saved_at = clock_timestamp(),
            home = home_now,
            version_floor = GREATEST(version_floor, floor_version);
    END IF;
    IF reason IS NOT NULL THEN
        -- What was told of another history may be told nowhere in this one.
        PERFORM creditsd.begin_resync(reason, republish => is_other_history);
    END IF;
    RETURN (
        SELECT jsonb_build_object(
            'snapshot', r.snapshot,
            'resyncing', r.resync_cause,
            'resynced_after', r.resync_after,
            'restarted', has_failed_over OR coalesce(known.started_at <> (beat ->> 'started_at')::timestamptz, false),
            'failed_over', has_failed_over,
            'newest', coalesce(newest_version, 0),
            'highest', GREATEST(newest_version, known.version_floor, 0)
        ) || beat - 'queue_usage'
        FROM creditsd.reader AS r
    );
END
$function$;

COMMENT ON FUNCTION creditsd.resume IS
'Loads the cursor, begins a resync where the text of the policy, the table, the server''s history, the place of our own tables or the clock differ from those noted, and tells whether the server restarted or failed over since. No version will be given at or below floor_version.';
