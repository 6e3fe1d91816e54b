-- Opens and drops the daily partitions of history: with creditsd.guard the only DDL of a running daemon, on tables of ours alone.
CREATE FUNCTION creditsd.tidy_history(history_days integer)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $function$
DECLARE
    step_rows CONSTANT integer := 10000;
    instant timestamptz := clock_timestamp();
    today date := (instant AT TIME ZONE 'UTC')::date;
    kept_days integer := CASE WHEN history_days > 0 THEN history_days ELSE (SELECT k.days FROM creditsd.history_kept AS k) END;
    oldest date := ((instant AT TIME ZONE 'UTC') - make_interval(days => kept_days))::date; -- some of this day is still wanted
    day date;
    partition text;
    first_version bigint;
    next_version bigint;
    newest_gone bigint;
    opened text[] := ARRAY[]::text[];
    dropped text[] := ARRAY[]::text[];
    deleted integer := 0;
BEGIN
    -- One at a time, and whoever comes second has nothing to do.
    IF kept_days IS NULL OR NOT pg_try_advisory_xact_lock('creditsd.history'::regclass::oid::int4, 1873320911) THEN
        RETURN jsonb_build_object('opened', opened, 'dropped', dropped, 'deleted', deleted, 'more', false);
    END IF;
    BEGIN
        FOR day IN
            SELECT wanted.day
            FROM unnest(ARRAY[today, today + 1]) AS wanted (day)
            WHERE history_days > 0
            AND to_regclass('creditsd.history_' || to_char(wanted.day, 'YYYYMMDD')) IS NULL
        LOOP
            partition := 'history_' || to_char(day, 'YYYYMMDD');
            first_version := extract(epoch FROM day::timestamp) * 1000000;
            next_version := extract(epoch FROM (day + 1)::timestamp) * 1000000;
            -- A day that began without a partition of its own ends without one.
            CONTINUE WHEN EXISTS (
                SELECT
                FROM creditsd.history_rest AS r
                WHERE r.version >= first_version
                AND r.version < next_version
            );
            EXECUTE format('CREATE TABLE creditsd.%I (LIKE creditsd.history)', partition);
            EXECUTE format('COMMENT ON TABLE creditsd.%I IS %L', partition, format('Steps of %s (UTC).', day));
            IF (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = 'creditsd.history'::regclass) THEN
                EXECUTE format('ALTER TABLE creditsd.%I ENABLE ROW LEVEL SECURITY', partition);
            END IF;
            -- Not CREATE TABLE PARTITION OF: attaching lets others write to the table meanwhile.
            EXECUTE format(
                'ALTER TABLE creditsd.history ATTACH PARTITION creditsd.%I FOR VALUES FROM (%s) TO (%s)',
                partition, first_version, next_version
            );
            opened := opened || partition;
        END LOOP;
    EXCEPTION
        WHEN lock_not_available OR deadlock_detected OR check_violation THEN
            opened := ARRAY[]::text[];
        WHEN OTHERS THEN
            opened := ARRAY[]::text[];
            RAISE WARNING 'creditsd could not open the history''s partition %: %', partition, SQLERRM;
    END;
    BEGIN
        WITH gone AS (
            DELETE FROM creditsd.history_rest AS r
            WHERE r.version IN (
                SELECT e.version
                FROM creditsd.history_rest AS e
                WHERE e.updated_at < instant - make_interval(days => kept_days)
                ORDER BY e.version
                LIMIT step_rows
            )
            RETURNING r.version
        )
        SELECT count(*), max(g.version)
        INTO deleted, newest_gone
        FROM gone AS g;
        UPDATE creditsd.history_kept SET whole_after = GREATEST(whole_after, newest_gone) WHERE deleted > 0;
    EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
            deleted := 0;
    END;
    FOR partition IN
        SELECT c.relname
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'creditsd.history'::regclass
        AND c.relname ~ '^history_\d{{8}}$'
        AND to_date(substr(c.relname, 9), 'YYYYMMDD') < oldest
        ORDER BY c.relname
    LOOP
        BEGIN
            EXECUTE format('SELECT max(version) FROM creditsd.%I', partition) INTO newest_gone;
            EXECUTE format('DROP TABLE creditsd.%I', partition);
            UPDATE creditsd.history_kept SET whole_after = GREATEST(whole_after, newest_gone);
            dropped := dropped || partition;
            EXIT; -- one a call: a clock that is wrong for a moment costs a day of history, not all of it
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                EXIT;
            WHEN OTHERS THEN
                RAISE WARNING 'creditsd could not drop the history''s partition %: %', partition, SQLERRM;
        END;
    END LOOP;
    RETURN jsonb_build_object(
        'opened', opened, 'dropped', dropped, 'deleted', deleted, 'more', deleted = step_rows
    );
END
$function$;

COMMENT ON FUNCTION creditsd.tidy_history IS
'Opens today''s and tomorrow''s partition of history (with history_days = 0 none), drops the oldest once all of it is older than history_days, deletes a bounded number of such rows without a partition. Gives up a lock after 100 ms.';
