CREATE SCHEMA creditsd;
COMMENT ON SCHEMA creditsd IS 'creditsd: each user''s total of credits, kept current and published. Made by "creditsd install", removed by "creditsd uninstall".';
CREATE TYPE creditsd.past AS (
	version bigint,
	updated_at timestamp with time zone,
	credits numeric,
	membership_status text,
	plan_type text,
	can_buy boolean,
	has_ever_had_subscription boolean,
	subscription_id text,
	membership text,
	expires_at timestamp with time zone,
	level text,
	low_credits numeric
);
COMMENT ON TYPE creditsd.past IS 'What a total was, but for whose it is.';
CREATE TYPE creditsd.total AS (
	user_id uuid,
	credits numeric,
	membership_status text,
	plan_type text,
	can_buy boolean,
	has_ever_had_subscription boolean,
	subscription_id text,
	membership text,
	expires_at timestamp with time zone,
	changes_at timestamp with time zone,
	empties bigint
);
COMMENT ON TYPE creditsd.total IS 'A total as the rows give it. changes_at: when time next ends or begins a row; empties: active one-time rows with zero credits that have begun.';
CREATE DOMAIN creditsd.user_id AS uuid;
COMMENT ON DOMAIN creditsd.user_id IS 'The type of a user''s id, as the application''s table has it.';
CREATE FUNCTION creditsd.amount(credits smallint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN credits;
COMMENT ON FUNCTION creditsd.amount(credits smallint) IS 'The credits of a row as they are summed: sums of whole numbers are quicker, and PostgreSQL widens them.';
CREATE FUNCTION creditsd.amount(credits integer) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN credits;
COMMENT ON FUNCTION creditsd.amount(credits integer) IS 'The credits of a row as they are summed: sums of whole numbers are quicker, and PostgreSQL widens them.';
CREATE FUNCTION creditsd.amount(credits bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN credits;
COMMENT ON FUNCTION creditsd.amount(credits bigint) IS 'The credits of a row as they are summed: sums of whole numbers are quicker, and PostgreSQL widens them.';
CREATE FUNCTION creditsd.amount(credits numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (credits <> ALL (ARRAY['NaN'::numeric, 'Infinity'::numeric, '-Infinity'::numeric])) THEN credits ELSE NULL::numeric END;
COMMENT ON FUNCTION creditsd.amount(credits numeric) IS 'The credits of a row as they are summed; null for what is not a number, or endless.';
CREATE FUNCTION creditsd.begin_resync(cause text, republish boolean DEFAULT false) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    UPDATE creditsd.reader
    SET resync_cause = cause,
        resync_after = NULL,
        resync_users = 0,
        resync_republishes = republish OR cause = 'republish' OR (resync_republishes AND resync_cause IS NOT NULL),
        fingerprint = creditsd.fingerprint()
$$;
COMMENT ON FUNCTION creditsd.begin_resync(cause text, republish boolean) IS 'Notes that everyone must be recomputed, from the beginning, and how the table is now: what it has lost before, the resync finds; with republish, or for that cause, each gets a new version, changed or not.';
CREATE FUNCTION creditsd.capture_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    <<unusual>>
    BEGIN
        BEGIN
            EXIT unusual WHEN OLD."user_id"::uuid IS NOT NULL;
        EXCEPTION
            WHEN OTHERS THEN
                PERFORM creditsd.mark_everyone();
        END;
        -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
        RETURN NULL;
    END unusual;
    INSERT INTO creditsd.changes (user_id)
    VALUES (OLD."user_id"::uuid);
    -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION creditsd.capture_delete() IS 'Marks the user of a deleted row.';
CREATE FUNCTION creditsd.capture_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    <<unusual>>
    BEGIN
        BEGIN
            EXIT unusual WHEN NEW."user_id"::uuid IS NOT NULL;
        EXCEPTION
            WHEN OTHERS THEN
                PERFORM creditsd.mark_everyone();
        END;
        -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
        RETURN NULL;
    END unusual;
    INSERT INTO creditsd.changes (user_id)
    VALUES (NEW."user_id"::uuid);
    -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION creditsd.capture_insert() IS 'Marks the user of a new row.';
CREATE FUNCTION creditsd.capture_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO creditsd.resyncs (cause)
    VALUES ('truncate');
    -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION creditsd.capture_truncate() IS 'Marks everyone: the table was emptied.';
CREATE FUNCTION creditsd.capture_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    <<unusual>>
    BEGIN
        BEGIN
            EXIT unusual WHEN OLD."user_id"::uuid = NEW."user_id"::uuid;
        EXCEPTION
            WHEN OTHERS THEN
                PERFORM creditsd.mark_everyone();
                -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
                RETURN NULL;
        END;
        INSERT INTO creditsd.changes (user_id)
        SELECT marked
        FROM unnest(ARRAY[NEW."user_id", OLD."user_id"]::uuid[]) AS marked
        WHERE marked IS NOT NULL;
        -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
        RETURN NULL;
    END unusual;
    INSERT INTO creditsd.changes (user_id)
    VALUES (NEW."user_id"::uuid);
    -- Granted: the daemon is awake and will see this; the lock stays, so it cannot fall asleep before we end. Refused: wake it, but where
    IF pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
        NULL;
    ELSIF pg_notification_queue_usage() <= 0.5 THEN
        NOTIFY creditsd;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION creditsd.capture_update() IS 'Marks the user of a changed row, and the one it was taken from.';
CREATE FUNCTION creditsd.counts(active boolean, empty boolean, starts_at timestamp with time zone, expires_at timestamp with time zone, instant timestamp with time zone, expire_empty text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((active AND ((starts_at IS NULL) OR (starts_at <= instant)) AND ((expires_at IS NULL) OR (expires_at > instant)) AND (NOT (empty AND (expire_empty = 'on'::text)))) IS TRUE);
COMMENT ON FUNCTION creditsd.counts(active boolean, empty boolean, starts_at timestamp with time zone, expires_at timestamp with time zone, instant timestamp with time zone, expire_empty text) IS 'Whether a row of the source counts at an instant. With expire_empty = on an empty one-time row has ceased to count before its status says so.';
CREATE TABLE creditsd.balances (
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    credits numeric NOT NULL,
    membership_status text NOT NULL,
    plan_type text NOT NULL,
    can_buy boolean NOT NULL,
    has_ever_had_subscription boolean NOT NULL,
    subscription_id text,
    membership text,
    expires_at timestamp with time zone,
    cause text NOT NULL,
    previous creditsd.past,
    recheck_at timestamp with time zone,
    level text,
    events jsonb,
    ends_told timestamp with time zone[],
    empty_since timestamp with time zone,
    low_credits numeric
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000');
COMMENT ON TABLE creditsd.balances IS 'The newest total of each user, written by creditsd alone.';
COMMENT ON COLUMN creditsd.balances.version IS 'Grows with every published change: greater than any before it, and at least the microseconds since 1970 when it was made.';
COMMENT ON COLUMN creditsd.balances.membership_status IS 'active, expired or none.';
COMMENT ON COLUMN creditsd.balances.plan_type IS 'subscription, one_time or none.';
COMMENT ON COLUMN creditsd.balances.cause IS 'Why this version exists: change, expiry, auto-expire, backfill or repair.';
COMMENT ON COLUMN creditsd.balances.previous IS 'The total before this version; null for the first.';
COMMENT ON COLUMN creditsd.balances.recheck_at IS 'When time alone may change this total or make its end one that comes soon: the earliest of the two.';
COMMENT ON COLUMN creditsd.balances.level IS 'depleted: no credits. low: at or below low_credits, or not yet back at recovered_credits. Null: neither.';
COMMENT ON COLUMN creditsd.balances.events IS 'What has happened and still stands: each type of event with the version that brought it and what belongs to it. credits.updated is there only where this version brought no new total, and says which one did.';
COMMENT ON COLUMN creditsd.balances.ends_told IS 'The ends of the primary row that plan.expiring_soon has been about, but for those long past.';
COMMENT ON COLUMN creditsd.balances.empty_since IS 'Since when the user has had empty plans that are to be expired, and no change; null where none waits for that.';
COMMENT ON COLUMN creditsd.balances.low_credits IS 'events.low_credits as this total was published with it; null where no threshold is set, and then the total does not say its level either.';
CREATE FUNCTION creditsd.differs(stored creditsd.balances, computed creditsd.total) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((((((((stored).credits IS DISTINCT FROM (computed).credits) OR ((stored).membership_status IS DISTINCT FROM (computed).membership_status)) OR ((stored).plan_type IS DISTINCT FROM (computed).plan_type)) OR ((stored).can_buy IS DISTINCT FROM (computed).can_buy)) OR ((stored).has_ever_had_subscription IS DISTINCT FROM ((computed).has_ever_had_subscription OR ((stored).has_ever_had_subscription IS TRUE)))) OR ((stored).subscription_id IS DISTINCT FROM (computed).subscription_id)) OR ((stored).membership IS DISTINCT FROM (computed).membership)) OR ((stored).expires_at IS DISTINCT FROM (computed).expires_at));
COMMENT ON FUNCTION creditsd.differs(stored creditsd.balances, computed creditsd.total) IS 'Whether a total, as the rows give it now, says something else than the one that is stored, but for its level.';
CREATE FUNCTION creditsd.level_differs(stored creditsd.balances, level text, low_credits numeric) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((stored).low_credits IS DISTINCT FROM low_credits) OR ((low_credits IS NOT NULL) AND ((stored).level IS DISTINCT FROM level)));
COMMENT ON FUNCTION creditsd.level_differs(stored creditsd.balances, level text, low_credits numeric) IS 'Whether a total says another level, or is low from another number on; of the level nothing is said where no threshold is set.';
CREATE FUNCTION creditsd.level_of(credits numeric, before text, low_at numeric, recovered_at numeric) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (credits <= (0)::numeric) THEN 'depleted'::text WHEN ((credits <= low_at) OR ((credits < recovered_at) AND (before IS NOT NULL))) THEN 'low'::text ELSE NULL::text END;
COMMENT ON FUNCTION creditsd.level_of(credits numeric, before text, low_at numeric, recovered_at numeric) IS 'depleted, low or null, for so many credits of somebody who stood at a level before.';
CREATE FUNCTION creditsd.low_at(event_policy jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((event_policy ->> 'low_credits'::text))::numeric;
COMMENT ON FUNCTION creditsd.low_at(event_policy jsonb) IS 'At so many credits or fewer a user is low.';
CREATE FUNCTION creditsd.recovered_at(event_policy jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN GREATEST(((event_policy ->> 'low_credits'::text))::numeric, ((event_policy ->> 'recovered_credits'::text))::numeric);
COMMENT ON FUNCTION creditsd.recovered_at(event_policy jsonb) IS 'At so many credits whoever was low is low no more; where it is low_at itself, above it.';
CREATE FUNCTION creditsd.level_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN creditsd.level_of((computed).credits, creditsd.level_of((stored).credits, (stored).level, creditsd.low_at(event_policy), creditsd.recovered_at(event_policy)), creditsd.low_at(event_policy), creditsd.recovered_at(event_policy));
COMMENT ON FUNCTION creditsd.level_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb) IS 'The level of a total as the rows give it now, after the one that is stored.';
CREATE FUNCTION creditsd.low_told(event_policy jsonb) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((event_policy ? 'tells_level'::text) AND (creditsd.recovered_at(event_policy) > (0)::numeric)) THEN creditsd.low_at(event_policy) ELSE NULL::numeric END;
COMMENT ON FUNCTION creditsd.low_told(event_policy jsonb) IS 'What a total says as low_credits; null where no threshold is set, or whoever asks tells of none.';
CREATE FUNCTION creditsd.differs_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (creditsd.differs(stored, computed) OR creditsd.level_differs(stored, creditsd.level_now(stored, computed, event_policy), creditsd.low_told(event_policy)));
COMMENT ON FUNCTION creditsd.differs_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb) IS 'Whether a total, as the rows give it now, says something else than the one that is stored, its level by a policy included.';
CREATE FUNCTION creditsd.drain(since pg_snapshot, upto pg_snapshot, pass_page integer, max_changes integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) RETURNS TABLE(page jsonb, total creditsd.balances)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    target pg_snapshot := coalesce(upto, pg_current_snapshot());
    first_new xid8 := pg_snapshot_xmax(since);
    ended xid8[] := ARRAY[]::xid8[];
    users uuid[];
    changes integer;
    listed refcursor := 'pass_users';
    has_more boolean := false;
    repaired uuid[] := ARRAY[]::uuid[];
    resync text;
    resyncing text;
    has_repairs boolean;
BEGIN
    -- 1. Read: those that began since, and those of transactions that were in progress then and have ended;
    IF upto IS NULL THEN
        users := ARRAY(
            SELECT c.user_id
            FROM creditsd.changes AS c
            WHERE c.xid >= first_new
            AND c.xid < pg_snapshot_xmax(target)
            AND pg_visible_in_snapshot(c.xid, target)
            ORDER BY c.xid, c.user_id
            LIMIT max_changes
        );
        IF pg_snapshot_xmin(since) < first_new THEN
            ended := ARRAY(SELECT x FROM pg_snapshot_xip(since) AS x WHERE pg_visible_in_snapshot(x, target));
            users := users || ARRAY(SELECT c.user_id FROM creditsd.changes AS c WHERE c.xid = ANY (ended) LIMIT max_changes);
        END IF;
        changes := cardinality(users);
    END IF;
    -- where they fill a page, list whom all of them concern, and begin with the first of those.
    IF upto IS NULL AND changes >= max_changes THEN
        IF EXISTS (SELECT FROM pg_cursors AS k WHERE k.name = 'pass_users') THEN
            CLOSE listed;
        END IF;
        EXECUTE format(
            'DECLARE pass_users SCROLL CURSOR WITH HOLD FOR
            SELECT array_agg(n.user_id ORDER BY n.user_id), sum(n.changes)
            FROM (
                SELECT m.user_id, count(*) AS changes, (row_number() OVER (ORDER BY m.user_id) - 1) / %s AS page
                FROM (
                    SELECT c.user_id FROM creditsd.changes AS c WHERE c.xid = ANY (%L::xid8[])
                    UNION ALL
                    SELECT c.user_id FROM creditsd.changes AS c WHERE c.xid >= %L AND c.xid < %L AND pg_visible_in_snapshot(c.xid, %L)
                ) AS m
                GROUP BY m.user_id
            ) AS n
            GROUP BY n.page
            ORDER BY n.page',
            max_changes, ended, first_new, pg_snapshot_xmax(target), target
        );
        pass_page := 1;
    END IF;
    IF pass_page IS NOT NULL THEN
        FETCH ABSOLUTE pass_page FROM listed INTO users, changes;
        MOVE NEXT FROM listed;
        has_more := FOUND;
        IF upto IS NULL AND NOT has_more THEN
            CLOSE listed;
        END IF;
    END IF;
    -- 2. Heed what asks for everyone.
    SELECT
        (
            SELECT s.cause
            FROM creditsd.resyncs AS s
            WHERE (s.xid >= first_new OR NOT pg_visible_in_snapshot(s.xid, since))
            AND pg_visible_in_snapshot(s.xid, target)
            LIMIT 1
        ),
        r.resync_cause,
        EXISTS (SELECT FROM creditsd.repairs)
    INTO resync, resyncing, has_repairs
    FROM creditsd.reader AS r;
    IF resync IS NOT NULL THEN
        PERFORM creditsd.begin_resync(resync);
        resyncing := resync;
        DELETE FROM creditsd.resyncs AS s
        WHERE pg_visible_in_snapshot(s.xid, target);
    END IF;
    -- 3. Recompute whom somebody asked to be told again: by the leader, in the order of versions, so that no publisher passes them by.
    IF has_repairs THEN
        WITH taken AS (
            DELETE FROM creditsd.repairs AS r
            WHERE r.user_id IN (SELECT a.user_id FROM creditsd.repairs AS a ORDER BY a.user_id LIMIT max_changes)
            RETURNING r.user_id
        )
        SELECT coalesce(array_agg(t.user_id), repaired)
        INTO repaired
        FROM taken AS t;
        RETURN QUERY
        SELECT NULL::jsonb, t
        FROM creditsd.recompute(repaired, 'repair', can_buy_policy, expire_empty, empty_seconds, event_policy, true, history_days) AS t;
    END IF;
    -- 4. Recompute those who changed.
    IF cardinality(users) > 0 THEN
        IF cardinality(users) > 1 OR has_repairs THEN
            users := ARRAY(
                SELECT DISTINCT u
                FROM unnest(users) AS u
                WHERE u <> ALL (repaired)
                ORDER BY u
            );
        END IF;
        RETURN QUERY
        SELECT NULL::jsonb, t
        FROM creditsd.recompute(users, 'change', can_buy_policy, expire_empty, empty_seconds, event_policy, false, history_days) AS t;
    END IF;
    -- 5. Say where the next page begins.
    page := jsonb_build_object(
        'snapshot', target,
        'full', has_more OR cardinality(repaired) >= max_changes,
        'pass_page', CASE WHEN has_more THEN pass_page + 1 END,
        'changes', changes,
        'users', cardinality(users),
        'resyncing', resyncing,
        'due_seconds', creditsd.due_seconds(),
        'clock', extract(epoch FROM clock_timestamp())
    );
    total := NULL;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION creditsd.drain(since pg_snapshot, upto pg_snapshot, pass_page integer, max_changes integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) IS 'Reads the changes that are visible now and not in since, and recomputes their users, and those in repairs. Where there are max_changes or more, lists their users, recomputes the first max_changes of them, and the next ones in later calls, with upto and pass_page as the call before returned them. Rows: the totals that changed, then one with the page.';
CREATE FUNCTION creditsd.drain_few(since pg_snapshot, newest_known bigint, due_known timestamp with time zone, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb) RETURNS TABLE(snapshot pg_snapshot, changes integer, users integer, due_at timestamp with time zone, clock timestamp with time zone, total creditsd.balances)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    instant timestamptz;
    marked uuid[];
    marked_user uuid;
    done uuid[];
    left_over uuid[];
    upto pg_snapshot;
    earliest timestamptz;
    newest bigint;
    is_asked boolean;
    line record;
    first_line record;
    summed numeric;
    has_subscription boolean;
    ends_at timestamptz;
    recovered_at numeric := GREATEST(0, (event_policy ->> 'low_credits')::numeric, (event_policy ->> 'recovered_credits')::numeric);
    soon interval := make_interval(secs => 86400 * NULLIF((event_policy ->> 'expiring_soon_days')::double precision, 0));
BEGIN
    -- 1. Take the turn: nobody else stores a total from here on, so what a later statement reads is not older than what is stored. Who
    -- has it may keep it for long, and there may be nothing to do: the caller finds that out without it.
    instant := CASE WHEN pg_try_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 561984073) THEN clock_timestamp() END;
    IF instant IS NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- 2. Read. The snapshot of this very statement becomes the cursor: what it shows is what is visible in it. With it come what else
    -- creditsd.drain heeds, and whether there is a newer version or an earlier time than the caller knows.
    SELECT
        ARRAY(
            (SELECT c.user_id FROM creditsd.changes AS c WHERE c.xid = ANY (ARRAY(SELECT pg_snapshot_xip(since))) LIMIT 5)
            UNION ALL
            (
                SELECT c.user_id
                FROM creditsd.changes AS c
                WHERE c.xid >= pg_snapshot_xmax(since)
                AND c.xid < pg_snapshot_xmax(pg_current_snapshot())
                LIMIT 5
            )
        ),
        pg_current_snapshot(),
        GREATEST(
            newest_known,
            r.version_floor,
            (SELECT b.version FROM creditsd.balances AS b WHERE b.version > newest_known ORDER BY b.version DESC LIMIT 1)
        ),
        LEAST(
            due_known,
            (SELECT b.recheck_at FROM creditsd.balances AS b WHERE b.recheck_at < due_known ORDER BY b.recheck_at LIMIT 1)
        ),
        r.resync_cause IS NOT NULL OR EXISTS (SELECT FROM creditsd.resyncs) OR EXISTS (SELECT FROM creditsd.repairs)
            OR EXISTS (SELECT FROM creditsd.problems)
    INTO marked, upto, newest, earliest, is_asked
    FROM creditsd.reader AS r;
    changes := cardinality(marked);
    IF is_asked IS NOT FALSE OR changes > 4 THEN
        RETURN NEXT;
        RETURN;
    END IF;
    users := changes;
    FOREACH marked_user IN ARRAY marked LOOP
        IF changes > 1 THEN
            IF marked_user = ANY (done) THEN
                users := users - 1;
                CONTINUE;
            END IF;
            done := done || marked_user;
            summed := NULL;
            has_subscription := NULL;
            ends_at := NULL;
        END IF;
        -- 3. Sum up. Empty plans to expire, and rows that begin later, are not for here: such a user ends up below zero, and is not plain.
        FOR line IN
            SELECT
                CASE
                    WHEN line.active AND (line.empty AND expire_empty <> 'off') THEN '-Infinity'::numeric
                    WHEN line.active AND (line.expires_at IS NULL OR line.expires_at > instant) THEN coalesce(line.credits, 0)
                END AS counted,
                line.subscription,
                line.one_time,
                line.membership,
                line.subscription_id,
                line.expires_at
            FROM (
                SELECT
                    t."user_id" AS user_id,
                    creditsd.amount(t."credits") AS credits,
                    t."status"::text AS status,
                    (t."status"::text = ANY ('{"active"}'::text[])) IS TRUE AS active,
                    t."plan_type"::text AS plan_type,
                    (t."plan_type"::text = ANY ('{"subscription"}'::text[])) IS TRUE AS subscription,
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[])) IS TRUE AS one_time,
                    -- Below zero is a debt, which is not empty.
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[]) AND creditsd.amount(t."credits") = 0) IS TRUE AS empty,
                    CASE WHEN octet_length(t."membership"::text) <= 1000 THEN t."membership"::text ELSE left(t."membership"::text, 1000) || '...' END AS membership,
                    CASE WHEN octet_length(t."subscription_id"::text) <= 1000 THEN t."subscription_id"::text ELSE left(t."subscription_id"::text, 1000) || '...' END AS subscription_id,
                    CASE WHEN t."expires_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."expires_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."expires_at"::timestamptz END AS expires_at,
                    CASE WHEN t."created_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."created_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."created_at"::timestamptz END AS created_at,
                    NULL::timestamptz AS starts_at,
                    false AS left_out
                FROM "public"."user_credits" AS t
            ) AS line
            WHERE line.user_id = marked_user
            ORDER BY
                line.subscription DESC,
                line.expires_at DESC NULLS FIRST,
                line.created_at DESC NULLS LAST,
                line.subscription_id,
                line.membership,
                line.one_time DESC
        LOOP
            has_subscription := line.subscription OR has_subscription;
            CONTINUE WHEN line.counted IS NULL;
            IF summed IS NULL THEN
                first_line := line;
            END IF;
            summed := coalesce(summed, 0) + line.counted;
            ends_at := LEAST(ends_at, line.expires_at);
        END LOOP;
        -- 4. Store, where it is another total of somebody plain: with credits before and after, and nothing that a threshold or time makes
        -- of it now, or that time will make of it at another moment than was thought.
        IF summed > recovered_at THEN
            UPDATE creditsd.balances AS b
            SET version = GREATEST((extract(epoch FROM instant) * 1000000)::bigint, newest + 1),
                updated_at = instant,
                credits = trim_scale(summed),
                membership_status = 'active',
                plan_type = CASE WHEN first_line.subscription THEN 'subscription' WHEN first_line.one_time THEN 'one_time' ELSE 'none' END,
                can_buy = can_buy_policy = 'always' OR (can_buy_policy <> 'no_credits' AND NOT first_line.subscription),
                has_ever_had_subscription = b.has_ever_had_subscription OR has_subscription IS TRUE,
                subscription_id = first_line.subscription_id,
                membership = first_line.membership,
                expires_at = first_line.expires_at,
                cause = 'change',
                previous = ROW(
                    b.version, b.updated_at, b.credits, b.membership_status, b.plan_type, b.can_buy, b.has_ever_had_subscription,
                    b.subscription_id, b.membership, b.expires_at, b.level, b.low_credits
                )::creditsd.past
            WHERE b.user_id = marked_user
            AND b.credits > recovered_at
            AND b.level IS NULL
            AND b.low_credits IS NOT DISTINCT FROM creditsd.low_told(event_policy)
            AND b.events IS NULL
            AND b.empty_since IS NULL
            AND b.recheck_at IS NOT DISTINCT FROM LEAST(ends_at, first_line.expires_at - soon)
            AND (first_line.expires_at - soon <= instant) IS NOT TRUE
            AND (
                b.credits, b.membership_status, b.plan_type, b.can_buy, b.has_ever_had_subscription, b.subscription_id,
                b.membership, b.expires_at
            ) IS DISTINCT FROM (
                summed, 'active', CASE WHEN first_line.subscription THEN 'subscription' WHEN first_line.one_time THEN 'one_time' ELSE 'none' END,
                can_buy_policy = 'always' OR (can_buy_policy <> 'no_credits' AND NOT first_line.subscription),
                b.has_ever_had_subscription OR has_subscription IS TRUE, first_line.subscription_id, first_line.membership, first_line.expires_at
            )
            RETURNING b.* INTO total;
            IF FOUND THEN
                newest := total.version;
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;
        left_over := left_over || marked_user;
    END LOOP;
    -- 5. Recompute whoever is left, which may move the timer.
    IF left_over IS NOT NULL THEN
        FOR total IN
            SELECT t.*
            FROM creditsd.recompute(left_over, 'change', can_buy_policy, expire_empty, empty_seconds, event_policy, false, 0) AS t
        LOOP
            RETURN NEXT;
        END LOOP;
        earliest := (SELECT coalesce(min(b.recheck_at), 'infinity') FROM creditsd.balances AS b WHERE b.recheck_at IS NOT NULL);
    END IF;
    -- 6. Say where the next drain begins.
    total := NULL;
    snapshot := upto;
    due_at := earliest;
    clock := clock_timestamp();
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION creditsd.drain_few(since pg_snapshot, newest_known bigint, due_known timestamp with time zone, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb) IS 'What creditsd.drain does where at most 4 changes are visible and nobody asks for anything else, for less: recomputes the users of all that is visible now and not in since. newest_known and due_known (infinity for none) are what the caller believes, and are checked. Rows: the totals that changed, then one with the snapshot; or, with nothing done, a single row without one.';
CREATE FUNCTION creditsd.due_seconds() RETURNS double precision
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT extract(epoch FROM b.recheck_at - clock_timestamp())::double precision
    FROM creditsd.balances AS b
    WHERE b.recheck_at IS NOT NULL
    ORDER BY b.recheck_at
    LIMIT 1
$$;
COMMENT ON FUNCTION creditsd.due_seconds() IS 'Seconds of the server''s clock until the earliest recheck_at; negative when it has passed, null when there is none.';
CREATE FUNCTION creditsd.events_after(was creditsd.balances, now_membership_status text, now_expires_at timestamp with time zone, next_version bigint, is_news boolean, level text, crossing text, low_at numeric, recovered_at numeric, expired boolean, ending boolean) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    -- What stands no longer goes; what happens now joins. credits.updated is named only where there is none.
    RETURN NULLIF(
        CASE WHEN is_news OR NOT ending THEN '{}' ELSE jsonb_build_object(
            'credits.updated',
            jsonb_build_object('version', was.version)
        ) END
        || (coalesce(was.events, '{}') - ARRAY[
            CASE WHEN is_news THEN 'credits.updated' END,
            CASE WHEN level IS DISTINCT FROM 'depleted' THEN 'credits.depleted' END,
            CASE WHEN level IS NULL THEN 'credits.low' ELSE 'credits.recovered' END,
            CASE WHEN now_membership_status <> 'expired' THEN 'plan.expired' END,
            CASE WHEN now_expires_at IS DISTINCT FROM was.expires_at THEN 'plan.expiring_soon' END
        ])
        || CASE WHEN crossing IS NULL THEN '{}' ELSE jsonb_build_object(
            crossing,
            jsonb_build_object(
                'version', next_version,
                'threshold', CASE crossing
                    WHEN 'credits.low' THEN low_at
                    WHEN 'credits.recovered' THEN recovered_at
                    ELSE 0
                END
            )
        ) END
        || CASE WHEN NOT expired THEN '{}' ELSE jsonb_build_object(
            'plan.expired',
            jsonb_build_object(
                'version', next_version,
                'plan', jsonb_build_object(
                    'planType', was.plan_type,
                    'subscription_id', was.subscription_id,
                    'membership', was.membership,
                    'expires_at', replace(to_char(was.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '')
                )
            )
        ) END
        || CASE WHEN NOT ending THEN '{}' ELSE jsonb_build_object(
            'plan.expiring_soon',
            jsonb_build_object('version', next_version)
        ) END,
        '{}'
    );
END
$$;
COMMENT ON FUNCTION creditsd.events_after(was creditsd.balances, now_membership_status text, now_expires_at timestamp with time zone, next_version bigint, is_news boolean, level text, crossing text, low_at numeric, recovered_at numeric, expired boolean, ending boolean) IS 'Event type to the version of its happening, and what else is to be told of it; null for nothing.';
CREATE FUNCTION creditsd.expire_empty(users uuid[]) RETURNS uuid[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'on'
    SET enable_seqscan TO 'off'
    SET lock_timeout TO '100ms'
    AS $$
#variable_conflict use_column
DECLARE
    relations oid[];
    places tid[];
    of_users uuid[];
    refused uuid[] := ARRAY[]::uuid[];
BEGIN
    -- The table's deferred triggers, too, fire in here: at the end of the transaction, before 18, they would run as the daemon.
    SET CONSTRAINTS ALL IMMEDIATE;
    -- Before any row is held: whoever has locked the table and goes on to write its rows would wait for us, and we for them.
    LOCK TABLE "public"."user_credits" IN ROW EXCLUSIVE MODE;
    SELECT array_agg(empty.relation), array_agg(empty.place), array_agg(empty.user_id)
    INTO relations, places, of_users
    FROM (
        SELECT t.tableoid AS relation, t.ctid AS place, t."user_id" AS user_id
        FROM "public"."user_credits" AS t
        WHERE t."user_id" = ANY (expire_empty.users)
        AND t."status"::text = ANY ('{"active"}'::text[])
        AND t."plan_type"::text = ANY ('{"one_time"}'::text[])
        AND creditsd.amount(t."credits") = 0
        AND (NULL::timestamptz <= clock_timestamp()) IS NOT FALSE
        FOR UPDATE SKIP LOCKED
    ) AS empty;
    IF places IS NULL THEN
        RETURN refused;
    END IF;
    BEGIN
        PERFORM creditsd.set_expired(relations, places);
    EXCEPTION
        WHEN lock_not_available THEN
            RAISE; -- what the table's own triggers want is held: one by one would hold the rows as many times as long
        WHEN OTHERS THEN
            -- One by one, so that the row that is refused stands alone.
            FOR i IN 1 .. cardinality(places) LOOP
                BEGIN
                    PERFORM creditsd.set_expired(relations[i:i], places[i:i]);
                EXCEPTION
                    WHEN OTHERS THEN
                        refused := refused || of_users[i];
                        PERFORM creditsd.note_problem(of_users[i], 'not expired', SQLERRM);
                END;
            END LOOP;
    END;
    -- Whatever path a trigger has left behind, the daemon's session goes on with its own.
    SET search_path = pg_catalog, pg_temp;
    -- Our own write marks nobody: whoever called sums these users up after it.
    DELETE FROM creditsd.changes AS c
    WHERE c.xid = pg_current_xact_id()
    AND c.user_id = ANY (expire_empty.users);
    RETURN refused;
EXCEPTION
    WHEN OTHERS THEN
        RAISE WARNING 'creditsd could not expire empty one-time rows: %', SQLERRM;
        RETURN expire_empty.users;
END
$$;
COMMENT ON FUNCTION creditsd.expire_empty(users uuid[]) IS 'Sets the expired status on active one-time rows with zero credits, except those that somebody holds; returns the users of whom the table refused one, each noted in problems. Sum the users up afterwards: no change marks them.';
CREATE FUNCTION creditsd.fingerprint() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    WITH RECURSIVE source AS (
        SELECT c.oid, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public'
        AND c.relname = 'user_credits'
    ),
    tree AS (
        SELECT s.oid AS relation, NULL::oid AS parent, NULL::text AS since
        FROM source AS s
        UNION
        SELECT i.inhrelid, i.inhparent, concat_ws(' ', i.xmin, i.inhdetachpending)
        FROM tree
        JOIN pg_inherits AS i ON i.inhparent = tree.relation
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE c.relpersistence <> 't' -- nobody but its own session sees what is in it
    ),
    facts AS (
        SELECT
            concat_ws(
                ' ', 'table', s.oid, s.relowner, s.relrowsecurity, s.relforcerowsecurity, s.relpersistence, o.rolsuper, o.rolbypassrls
            ) AS fact
        FROM source AS s
        LEFT JOIN pg_roles AS o ON o.oid = s.relowner
        UNION ALL
        SELECT concat_ws(' ', 'relation', t.relation, t.parent, t.since)
        FROM tree AS t
        UNION ALL
        SELECT concat_ws(' ', 'trigger', g.tgrelid, g.oid, g.tgname, g.tgenabled, g.tgfoid, g.tgtype, g.tgqual::text, g.tgattr, g.xmin)
        FROM pg_trigger AS g
        WHERE g.tgrelid IN (SELECT t.relation FROM tree AS t)
        -- By what they call, not by their names: whoever may put triggers there chooses names, and must not make us recompute everyone.
        AND g.tgfoid IN (SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'creditsd'::regnamespace)
        UNION ALL
        -- TRUNCATE gives a table another file; where no trigger tells of it, this does.
        SELECT concat_ws(' ', 'file', c.oid, c.relfilenode)
        FROM pg_class AS c
        WHERE c.oid IN (SELECT t.relation FROM tree AS t)
        AND NOT EXISTS (
            SELECT
            FROM pg_trigger AS g
            WHERE g.tgrelid = c.oid
            AND g.tgname = 'creditsd_truncate'
            AND g.tgenabled = 'A'
        )
        UNION ALL
        -- A crash empties what is not logged.
        SELECT concat_ws(' ', 'unlogged', c.oid, pg_postmaster_start_time())
        FROM pg_class AS c
        WHERE c.oid IN (SELECT t.relation FROM tree AS t)
        AND c.relpersistence = 'u'
        UNION ALL
        SELECT
            concat_ws(
                ' ', 'column', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated, a.attcollation, a.xmin,
                (SELECT string_agg(concat_ws(' ', e.oid, e.enumlabel), ' ' ORDER BY e.oid) FROM pg_enum AS e WHERE e.enumtypid = a.atttypid)
            )
        FROM pg_attribute AS a
        WHERE a.attrelid = (SELECT s.oid FROM source AS s)
        AND a.attname = ANY ('{"user_id","credits","status","plan_type","membership","subscription_id","starts_at","expires_at","created_at"}'::name[])
        UNION ALL
        SELECT concat_ws(' ', 'where', '')
    )
    SELECT coalesce(md5(string_agg(f.fact, E'\n' ORDER BY f.fact) || creditsd.functions_digest(false)), '')
    FROM facts AS f
$$;
COMMENT ON FUNCTION creditsd.fingerprint() IS 'Condenses all that a change of the table''s rows could pass by unseen through; where it differs from the one noted in reader, everyone is recomputed. Empty where there is no such table.';
CREATE FUNCTION creditsd.forget(forgotten uuid) RETURNS TABLE(version bigint, balances integer, changes integer, deliveries integer, history integer, remaining bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 561984073);
    -- Whoever writes a line of the user now is through before the lines are deleted; whoever comes later finds no such user.
    -- Before any row is deleted: who removes a sink locks lines first, and then deliveries.
    LOCK TABLE creditsd.attempts IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM creditsd.changes AS c
    WHERE c.user_id = forgotten;
    GET DIAGNOSTICS changes = ROW_COUNT;
    DELETE FROM creditsd.repairs AS r
    WHERE r.user_id = forgotten;
    DELETE FROM creditsd.deliveries AS d
    WHERE d.user_id = forgotten;
    GET DIAGNOSTICS deliveries = ROW_COUNT;
    -- A request that told of several users names none, but the answer may: a short id counts as a word of its own alone.
    DELETE FROM creditsd.attempts AS a
    WHERE a.user_id = forgotten
    OR (
        a.user_id IS NULL
        AND strpos(lower(a.answer), lower(forgotten::text)) > 0
        AND (
            length(forgotten::text) >= 8
            OR strpos(
                ' ' || regexp_replace(lower(a.answer), '[^[:alnum:]]+', ' ', 'g') || ' ',
                ' ' || regexp_replace(lower(forgotten::text), '[^[:alnum:]]+', ' ', 'g') || ' '
            ) > 0
        )
    );
    DELETE FROM creditsd.history AS h
    WHERE h.user_id = forgotten;
    GET DIAGNOSTICS history = ROW_COUNT;
    -- The newest version may go with the user, and none is given twice.
    UPDATE creditsd.reader AS r
    SET version_floor = GREATEST(r.version_floor, (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1));
    -- A resync notes the last user it has done, and goes on after it: the one before will do.
    UPDATE creditsd.reader AS r
    SET resync_after = (
        SELECT b.user_id::text
        FROM creditsd.balances AS b
        WHERE b.user_id < forgotten
        ORDER BY b.user_id DESC
        LIMIT 1
    )
    WHERE r.resync_after = forgotten::text;
    DELETE FROM creditsd.balances AS b
    WHERE b.user_id = forgotten
    RETURNING b.version INTO version;
    GET DIAGNOSTICS balances = ROW_COUNT;
    remaining := (SELECT count(*) FROM "public"."user_credits" AS t WHERE t."user_id" = forgotten);
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION creditsd.forget(forgotten uuid) IS 'Erases a user: returns the version that was stored, how many rows of each table went, and how many rows the user still has in the source.';
CREATE FUNCTION creditsd.functions_digest(comments boolean) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT md5(string_agg(
        concat_ws(
            ' ', p.proname, pg_get_function_identity_arguments(p.oid), p.prosecdef, p.provolatile, p.proconfig,
            CASE WHEN comments THEN p.prosrc ELSE regexp_replace(regexp_replace(p.prosrc, '--[^\n]*', '', 'g'), '\s+', ' ', 'g') END
        ),
        E'\n'
        ORDER BY p.proname, pg_get_function_identity_arguments(p.oid)
    ))
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'creditsd'
    AND p.proowner = n.nspowner -- others may keep theirs beside ours
$$;
COMMENT ON FUNCTION creditsd.functions_digest(comments boolean) IS 'Condenses every function of ours, with or without what stands in it as a comment; only a difference means anything.';
CREATE FUNCTION creditsd.guard() RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    unguarded text[];
    let_in text[];
    relation text;
BEGIN
    SELECT array_agg(c.relname ORDER BY c.relname)
    INTO unguarded
    FROM pg_class AS c
    WHERE c.relnamespace = 'creditsd'::regnamespace
    AND c.relkind IN ('r', 'p')
    AND (c.relname IN ('balances', 'history', 'history_rest') OR c.relname ~ '^history_\d{8}$')
    AND NOT c.relrowsecurity;
    IF unguarded IS NULL THEN
        RETURN '{}';
    END IF;
    SELECT array_agg(DISTINCT coalesce(r.rolname::text, 'PUBLIC'))
    INTO let_in
    FROM pg_class AS c
    LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT t.grantee, t.privilege_type FROM aclexplode(c.relacl) AS t
        UNION ALL
        SELECT t.grantee, t.privilege_type FROM aclexplode(a.attacl) AS t
    ) AS granted
    LEFT JOIN pg_roles AS r ON r.oid = granted.grantee
    WHERE c.relnamespace = 'creditsd'::regnamespace
    AND c.relname = ANY (unguarded)
    AND granted.privilege_type = 'SELECT'
    AND granted.grantee <> c.relowner
    AND granted.grantee IS DISTINCT FROM (
        SELECT d.oid
        FROM creditsd.installation AS i
        JOIN pg_roles AS d ON d.rolname = i.role
    );
    IF let_in IS NULL THEN
        RETURN '{}';
    END IF;
    FOREACH relation IN ARRAY unguarded LOOP
        EXECUTE format('ALTER TABLE creditsd.%I ENABLE ROW LEVEL SECURITY', relation);
    END LOOP;
    RETURN let_in;
END
$_$;
COMMENT ON FUNCTION creditsd.guard() IS 'Turns row level security on for balances and history once a role beside the owner and the daemon''s may read them; returns who may, where it did.';
CREATE FUNCTION creditsd.heartbeat(proof text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
$$;
COMMENT ON FUNCTION creditsd.heartbeat(proof text) IS 'Rings the bell with a proof (unless null, or the queue is more than half full) that the daemon must hear; returns the server''s identity (0 where it may not be asked), and how full the queue is.';
CREATE FUNCTION creditsd.home() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT concat_ws(' ', d.oid, 'creditsd.reader'::regclass::oid)
    FROM pg_database AS d
    WHERE d.datname = current_database()
$$;
COMMENT ON FUNCTION creditsd.home() IS 'The oids of this database and of our table reader: where they differ from those noted, the rows are of another history.';
CREATE FUNCTION creditsd.keepable(users uuid[]) RETURNS uuid[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    each_user uuid;
BEGIN
    FOR each_user IN
        SELECT u
        FROM unnest(users) AS u
        WHERE octet_length(u::text) > 2600
    LOOP
        IF octet_length(each_user::text) > 2600 THEN
            PERFORM creditsd.note_problem(
                left(each_user::text, 100)::uuid, 'id too long',
                format('an id of %s bytes: the longest that can be kept has %s', octet_length(each_user::text), 2600)
            );
        ELSE
            PERFORM creditsd.note_problem(left(each_user::text, 100)::uuid, 'not summed', 'an id of bytes that are no UTF-8');
        END IF;
        users := array_remove(users, each_user);
    END LOOP;
    RETURN users;
END
$$;
COMMENT ON FUNCTION creditsd.keepable(users uuid[]) IS 'Those of the users whose ids can be kept, being short enough and text; the others are noted in problems.';
CREATE FUNCTION creditsd.mark_everyone() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    marked CONSTANT text := 'creditsd.marked_' || 'creditsd.resyncs'::regclass::oid;
BEGIN
    -- Once a transaction: a mark of another may be read, and be gone, before this one commits. Noted in a setting, which a savepoint takes
    -- back as it does the mark: to look into the table would have serializable writers fail because of one another.
    IF current_setting(marked, true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        INSERT INTO creditsd.resyncs (cause)
        VALUES ('column changed');
        PERFORM set_config(marked, pg_current_xact_id()::text, true);
    END IF;
END
$$;
COMMENT ON FUNCTION creditsd.mark_everyone() IS 'Marks everyone, once a transaction, where a capture trigger does not find the user''s column any more, or it has become of another type: the application''s write passes all the same.';
CREATE FUNCTION creditsd.note_problem(whose uuid, what text, why text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO creditsd.problems AS p (user_id, problem, reason)
    VALUES (whose, what, why)
    ON CONFLICT (user_id, problem) DO UPDATE
    SET reason = excluded.reason,
        seen_at = now();
    RAISE WARNING 'creditsd sets % aside (%): %', whose, what, why;
END
$$;
COMMENT ON FUNCTION creditsd.note_problem(whose uuid, what text, why text) IS 'Notes in problems, and in a warning, why a user is set aside.';
CREATE FUNCTION creditsd.nothing_matches() RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
BEGIN
    RETURN (
        SELECT coalesce(bool_or(line.left_out), false) AND NOT coalesce(bool_or(line.active), false)
        FROM (
                SELECT
                    t."user_id" AS user_id,
                    creditsd.amount(t."credits") AS credits,
                    t."status"::text AS status,
                    (t."status"::text = ANY ('{"active"}'::text[])) IS TRUE AS active,
                    t."plan_type"::text AS plan_type,
                    (t."plan_type"::text = ANY ('{"subscription"}'::text[])) IS TRUE AS subscription,
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[])) IS TRUE AS one_time,
                    -- Below zero is a debt, which is not empty.
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[]) AND creditsd.amount(t."credits") = 0) IS TRUE AS empty,
                    CASE WHEN octet_length(t."membership"::text) <= 1000 THEN t."membership"::text ELSE left(t."membership"::text, 1000) || '...' END AS membership,
                    CASE WHEN octet_length(t."subscription_id"::text) <= 1000 THEN t."subscription_id"::text ELSE left(t."subscription_id"::text, 1000) || '...' END AS subscription_id,
                    CASE WHEN t."expires_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."expires_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."expires_at"::timestamptz END AS expires_at,
                    CASE WHEN t."created_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."created_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."created_at"::timestamptz END AS created_at,
                    NULL::timestamptz AS starts_at,
                    false AS left_out
                FROM "public"."user_credits" AS t
        ) AS line
    );
EXCEPTION
    WHEN data_exception OR program_limit_exceeded OR syntax_error OR invalid_name THEN
        RETURN false; -- of some row it cannot be said: whose that is, the recompute of everyone tells
END
$$;
COMMENT ON FUNCTION creditsd.nothing_matches() IS 'Whether source.where leaves rows out, and no row counts. Reads the whole table.';
CREATE FUNCTION creditsd.purge(upto pg_snapshot, after_xid xid8, after_user uuid, max_changes integer) RETURNS TABLE(snapshot pg_snapshot, next_xid xid8, next_user uuid, deleted integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    since pg_snapshot;
    first_new xid8;
    room integer := max_changes;
    running xid8;
    last_xid xid8 := after_xid;
    last_user uuid := after_user;
    places tid[] := ARRAY[]::tid[];
    page_places tid[];
    page_xids xid8[];
    page_users uuid[];
BEGIN
    -- Never beyond the saved cursor, whoever asks.
    SELECT
        r.purged,
        CASE WHEN pg_snapshot_xmax(upto) <= pg_snapshot_xmax(r.snapshot) THEN upto ELSE r.snapshot END
    INTO since, snapshot
    FROM creditsd.reader AS r;
    IF NOT FOUND THEN
        -- Nothing has been read yet; what the next statement would see is another matter.
        deleted := 0;
        RETURN NEXT;
        RETURN;
    END IF;
    first_new := pg_snapshot_xmax(since);
    FOR running IN
        SELECT x
        FROM pg_snapshot_xip(since) AS x
        WHERE after_xid IS NULL OR x >= after_xid
        ORDER BY x
    LOOP
        EXIT WHEN room <= 0;
        CONTINUE WHEN NOT pg_visible_in_snapshot(running, snapshot);
        SELECT array_agg(n.ctid), array_agg(n.user_id)
        INTO page_places, page_users
        FROM (
            SELECT c.ctid, c.user_id
            FROM creditsd.changes AS c
            WHERE c.xid = running
            AND (running IS DISTINCT FROM after_xid OR c.user_id >= after_user)
            ORDER BY c.user_id
            LIMIT room
        ) AS n;
        IF cardinality(page_places) > 0 THEN
            room := room - cardinality(page_places);
            places := places || page_places;
            last_xid := running;
            last_user := page_users[cardinality(page_users)];
        END IF;
    END LOOP;
    IF room > 0 THEN
        IF last_xid IS NULL OR last_xid < first_new THEN
            SELECT array_agg(n.ctid), array_agg(n.xid), array_agg(n.user_id)
            INTO page_places, page_xids, page_users
            FROM (
                SELECT c.ctid, c.xid, c.user_id
                FROM creditsd.changes AS c
                WHERE c.xid >= first_new
                AND c.xid < pg_snapshot_xmax(snapshot)
                AND pg_visible_in_snapshot(c.xid, snapshot)
                ORDER BY c.xid, c.user_id
                LIMIT room
            ) AS n;
        ELSE
            -- From the last pair on, not after it: a pair may stand more than once.
            SELECT array_agg(n.ctid), array_agg(n.xid), array_agg(n.user_id)
            INTO page_places, page_xids, page_users
            FROM (
                SELECT c.ctid, c.xid, c.user_id
                FROM creditsd.changes AS c
                WHERE (c.xid, c.user_id) >= (last_xid, last_user)
                AND c.xid < pg_snapshot_xmax(snapshot)
                AND pg_visible_in_snapshot(c.xid, snapshot)
                ORDER BY c.xid, c.user_id
                LIMIT room
            ) AS n;
        END IF;
        IF cardinality(page_places) > 0 THEN
            room := room - cardinality(page_places);
            places := places || page_places;
            last_xid := page_xids[cardinality(page_xids)];
            last_user := page_users[cardinality(page_users)];
        END IF;
    END IF;
    DELETE FROM creditsd.changes AS c
    WHERE c.ctid = ANY (places);
    deleted := max_changes - room;
    IF room > 0 THEN
        UPDATE creditsd.reader SET purged = purge.snapshot; -- bare, it would be the column
        next_xid := NULL;
        next_user := NULL;
    ELSE
        next_xid := last_xid;
        next_user := last_user;
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION creditsd.purge(upto pg_snapshot, after_xid xid8, after_user uuid, max_changes integer) IS 'Deletes up to max_changes changes that are visible in upto (the saved cursor, where null) and not yet purged, from a position; next_xid is null when the pass is complete.';
CREATE FUNCTION creditsd.recompute(users uuid[], reason text, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, republish boolean, history_days integer) RETURNS SETOF creditsd.balances
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    turn boolean;
    instant timestamptz;
    newest bigint;
    version bigint;
    asked uuid[] := users;
    emptied uuid[];
    again boolean := false;
    refused uuid[] := ARRAY[]::uuid[];
    unkept boolean;
    low_at numeric := creditsd.low_at(event_policy);
    recovered_at numeric := GREATEST(low_at, (event_policy ->> 'recovered_credits')::numeric); -- creditsd.recovered_at
    low_told numeric := CASE WHEN event_policy ? 'tells_level' AND recovered_at > 0 THEN low_at END; -- creditsd.low_told
    soon interval := make_interval(secs => 86400 * NULLIF((event_policy ->> 'expiring_soon_days')::double precision, 0));
    pair record;
    computed creditsd.total; -- as the rows give it
    stored creditsd.balances; -- as it is stored
    new creditsd.balances; -- as it is to be stored
    changed creditsd.balances[] := ARRAY[]::creditsd.balances[];
    has_new boolean := false;
    is_known boolean;
    is_news boolean;
    has_ever boolean;
    has_expired boolean;
    is_ending boolean;
    old_level text;
    new_level text;
    crossing text;
    waits boolean;
    empty_from timestamptz;
    next_look timestamptz;
    standing jsonb;
BEGIN
    -- 1. Take the turn. The lock comes before the statement that reads the truth: of two recomputes of one user the later one reads
    -- later, and cannot leave the older total. So does the table's own: to a snapshot from before it is rewritten, it is empty.
    turn := pg_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 561984073) IS NOT NULL;
    LOCK TABLE "public"."user_credits" IN ACCESS SHARE MODE;
    instant := clock_timestamp();
    IF history_days > 0 THEN
        -- Where the newest total is no step, somebody has stored it with history off.
        unkept := NOT EXISTS (
            SELECT
            FROM creditsd.history_kept AS k
            WHERE k.upto >= (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1)
        );
    END IF;
    newest := GREATEST(
        (extract(epoch FROM instant) * 1000000)::bigint - 1,
        (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1),
        -- Given out by a server that was lost, or to somebody who is forgotten.
        (SELECT r.version_floor FROM creditsd.reader AS r)
    );
    version := newest;
    IF current_setting('creditsd.careful', true) = 'on' THEN
        asked := creditsd.summable(asked, instant, can_buy_policy, expire_empty);
        -- Who cannot be summed up is due again in a while, and not at once and for ever, before all others.
        UPDATE creditsd.balances AS b
        SET recheck_at = instant + interval '1 minute'
        WHERE b.user_id = ANY (users)
        AND b.user_id <> ALL (asked)
        AND b.recheck_at <= instant;
        users := asked;
    END IF;
    LOOP
        -- 2. Compare. User by user, but each statement once for all: PostgreSQL prepares what a statement might compute at every start
        -- of it, which for one user would be most of the work. What is decided here costs little, and nothing where it is not asked.
        FOR pair IN
            SELECT c AS computed, b AS stored
            FROM creditsd.totals(asked, instant, can_buy_policy, expire_empty) AS c
            LEFT JOIN creditsd.balances AS b ON b.user_id = c.user_id
        LOOP
            computed := pair.computed;
            stored := pair.stored;
            -- An empty plan may stand for empty_seconds. Each change of the user's begins them anew: whoever has just emptied a row may
            -- be about to fill it, or holds a snapshot in which an update of ours would fail to serialize.
            empty_from := CASE WHEN computed.empties > 0 AND expire_empty <> 'off' AND empty_seconds > 0 THEN
                CASE WHEN reason = 'change' THEN instant ELSE coalesce(stored.empty_since, instant) END
            END;
            waits := NOT again AND (empty_from + make_interval(secs => empty_seconds) > instant) IS TRUE;
            IF computed.empties > 0 AND expire_empty <> 'off' AND NOT again AND NOT waits THEN
                emptied := emptied || computed.user_id;
                CONTINUE WHEN expire_empty = 'on';
            END IF;
            is_known := stored.user_id IS NOT NULL;
            has_ever := computed.has_ever_had_subscription OR stored.has_ever_had_subscription IS TRUE;
            -- The old credits by today's thresholds: so a threshold that was moved is no event of anybody's.
            old_level := creditsd.level_of(stored.credits, stored.level, low_at, recovered_at);
            new_level := creditsd.level_of(computed.credits, old_level, low_at, recovered_at);
            is_news := republish OR creditsd.differs(stored, computed);
            IF NOT is_news AND coalesce(low_told, stored.low_credits) IS NOT NULL THEN
                is_news := creditsd.level_differs(stored, new_level, low_told);
            END IF;
            crossing := CASE
                WHEN NOT is_known OR new_level IS NOT DISTINCT FROM old_level THEN NULL
                WHEN new_level = 'depleted' THEN 'credits.depleted'
                WHEN new_level IS NULL THEN 'credits.recovered'
                WHEN old_level IS NULL THEN 'credits.low'
            END;
            has_expired := (stored.membership_status = 'active' AND computed.membership_status = 'expired') IS TRUE;
            is_ending := (
                computed.expires_at - soon <= instant
                -- An end that has only just become near: the timer stood before it, or it was another one.
                AND CASE
                    WHEN NOT is_known THEN reason <> 'backfill'
                    ELSE stored.recheck_at <= computed.expires_at - soon OR computed.expires_at IS DISTINCT FROM stored.expires_at
                END
                AND (computed.expires_at = ANY (stored.ends_told)) IS NOT TRUE
            ) IS TRUE;
            next_look := LEAST(
                computed.changes_at,
                CASE WHEN computed.expires_at - soon > instant THEN computed.expires_at - soon END,
                CASE WHEN waits THEN empty_from + make_interval(secs => empty_seconds) END,
                -- Somebody holds the row, or the table refuses what we would write.
                CASE WHEN again AND computed.empties > 0 THEN
                    instant + CASE WHEN computed.user_id = ANY (refused) THEN interval '1 minute' ELSE interval '1 second' END
                END
            );
            standing := CASE WHEN crossing IS NOT NULL OR has_expired OR is_ending OR stored.events IS NOT NULL THEN
                creditsd.events_after(
                    stored, computed.membership_status, computed.expires_at, version + 1, is_news,
                    new_level, crossing, low_at, recovered_at, has_expired, is_ending
                )
            END;
            IF NOT (is_news OR is_ending) THEN
                -- The same total, but time will change it at another moment than was thought, or a level that is not told.
                IF (stored.recheck_at, stored.level, stored.empty_since) IS DISTINCT FROM (next_look, new_level, empty_from) THEN
                    UPDATE creditsd.balances AS b
                    SET recheck_at = next_look,
                        level = new_level,
                        empty_since = empty_from,
                        events = standing
                    WHERE b.user_id = computed.user_id;
                END IF;
                CONTINUE;
            END IF;
            -- Who has no rows and was never told of is no news: somebody who was forgotten must not come back by this.
            CONTINUE WHEN NOT is_known AND computed.membership_status = 'none' AND NOT republish;
            IF is_ending THEN
                stored.ends_told := ARRAY(SELECT e FROM unnest(stored.ends_told) AS e WHERE e > instant) || computed.expires_at;
            END IF;
            version := version + 1;
            new := ROW(
                computed.user_id, version, instant, computed.credits, computed.membership_status, computed.plan_type,
                computed.can_buy, has_ever, computed.subscription_id, computed.membership, computed.expires_at,
                CASE WHEN again THEN 'auto-expire' ELSE reason END,
                CASE WHEN is_known THEN
                    ROW(
                        stored.version, stored.updated_at, stored.credits, stored.membership_status, stored.plan_type,
                        stored.can_buy, stored.has_ever_had_subscription, stored.subscription_id, stored.membership,
                        stored.expires_at, stored.level, stored.low_credits
                    )::creditsd.past
                END,
                next_look, new_level, standing, stored.ends_told, empty_from, low_told
            )::creditsd.balances;
            RETURN NEXT new;
            changed := changed || new;
            has_new := has_new OR NOT is_known;
        END LOOP;
        -- 3. Expire, and compare those users once more.
        EXIT WHEN emptied IS NULL OR again;
        IF expire_empty = 'dry_run' THEN
            RAISE NOTICE 'creditsd would expire the empty one-time rows of % (expire_empty = dry_run)', emptied[1:10];
            EXIT;
        END IF;
        refused := creditsd.expire_empty(emptied);
        -- Once more, with whatever triggers of the table's own did on the way.
        asked := emptied;
        again := true;
    END LOOP;
    IF EXISTS (SELECT FROM creditsd.problems) THEN
        DELETE FROM creditsd.problems AS p
        WHERE p.user_id = ANY (users)
        AND NOT (p.problem = 'not expired' AND p.user_id = ANY (refused));
    END IF;
    -- 4. Store.
    IF version > newest THEN
        UPDATE creditsd.balances AS b
        SET version = c.version,
            updated_at = c.updated_at,
            credits = c.credits,
            membership_status = c.membership_status,
            plan_type = c.plan_type,
            can_buy = c.can_buy,
            has_ever_had_subscription = c.has_ever_had_subscription,
            subscription_id = c.subscription_id,
            membership = c.membership,
            expires_at = c.expires_at,
            cause = c.cause,
            previous = c.previous,
            recheck_at = c.recheck_at,
            level = c.level,
            events = c.events,
            ends_told = c.ends_told,
            empty_since = c.empty_since,
            low_credits = c.low_credits
        FROM unnest(changed) AS c
        WHERE b.user_id = c.user_id;
    END IF;
    IF has_new THEN
        INSERT INTO creditsd.balances
        SELECT c.*
        FROM unnest(changed) AS c
        WHERE c.previous IS NULL;
    END IF;
    -- 5. Keep the history.
    IF history_days > 0 THEN
        -- Whatever stands above `newest` is this call's own: everyone else waits for the lock.
        INSERT INTO creditsd.history (
            version, user_id, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription,
            subscription_id, membership, expires_at, cause, previous, events, level, low_credits
        )
        SELECT
            b.version, b.user_id, b.updated_at, b.credits, b.membership_status, b.plan_type, b.can_buy,
            b.has_ever_had_subscription, b.subscription_id, b.membership, b.expires_at, b.cause, b.previous, b.events,
            b.level, b.low_credits
        FROM creditsd.balances AS b
        WHERE b.version > newest;
        IF FOUND THEN
            INSERT INTO creditsd.history_kept AS k (days, whole_after, upto)
            VALUES (history_days, newest, (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1))
            ON CONFLICT (single) DO UPDATE
            SET days = excluded.days,
                whole_after = CASE WHEN unkept THEN excluded.whole_after ELSE k.whole_after END,
                upto = excluded.upto;
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION creditsd.recompute(users uuid[], reason text, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, republish boolean, history_days integer) IS 'Recomputes users (each named once), expires their empty one-time rows, stores and returns the totals that changed, in order of version, with what happened to the user by that; with history_days above 0 into history, too. Takes its turn by an advisory lock.';
CREATE FUNCTION creditsd.recompute_due(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) RETURNS TABLE(page jsonb, total creditsd.balances)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    users uuid[] := ARRAY(
        SELECT b.user_id
        FROM creditsd.balances AS b
        WHERE b.recheck_at <= clock_timestamp()
        ORDER BY b.recheck_at
        LIMIT max_users
    );
BEGIN
    RETURN QUERY
    SELECT NULL::jsonb, t
    FROM creditsd.recompute(users, 'expiry', can_buy_policy, expire_empty, empty_seconds, event_policy, false, history_days) AS t;
    page := jsonb_build_object('users', cardinality(users), 'due_seconds', creditsd.due_seconds());
    total := NULL;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION creditsd.recompute_due(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) IS 'Recomputes up to max_users whose recheck_at has passed. Rows: the totals that changed, then one with the page.';
CREATE FUNCTION creditsd.resume(policy_now text, floor_version bigint) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
$$;
COMMENT ON FUNCTION creditsd.resume(policy_now text, floor_version bigint) IS 'Loads the cursor, begins a resync where the text of the policy, the table, the server''s history, the place of our own tables or the clock differ from those noted, and tells whether the server restarted or failed over since. No version will be given at or below floor_version.';
CREATE FUNCTION creditsd.resync_next(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) RETURNS TABLE(page jsonb, total creditsd.balances)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    cause text;
    last_done text;
    users uuid[];
    republishes boolean;
BEGIN
    SELECT r.resync_cause, r.resync_after, r.resync_republishes
    INTO cause, last_done, republishes
    FROM creditsd.reader AS r;
    users := creditsd.users_after(last_done::uuid, max_users);
    IF cause IS NOT NULL AND cardinality(users) > 0 THEN
        RETURN QUERY
        SELECT NULL::jsonb, t
        FROM creditsd.recompute(
            creditsd.keepable(users), 'backfill', can_buy_policy, expire_empty, empty_seconds, event_policy, republishes, history_days
        ) AS t;
    END IF;
    IF cardinality(users) < max_users THEN
        UPDATE creditsd.reader SET resync_cause = NULL, resync_after = NULL, resync_republishes = false;
    ELSE
        UPDATE creditsd.reader SET resync_after = users[max_users]::text, resync_users = resync_users + max_users;
    END IF;
    page := jsonb_build_object(
        'users', cardinality(users),
        'done', cardinality(users) < max_users,
        'due_seconds', creditsd.due_seconds()
    );
    total := NULL;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION creditsd.resync_next(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) IS 'Recomputes the next max_users users of the resync under way and notes how far it came; where it republishes, each gets a new version. Rows: the totals that changed, then one with the page.';
CREATE FUNCTION creditsd.search_path_of_owner() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT coalesce(
        (
            SELECT substr(setting, length('search_path=') + 1)
            FROM pg_db_role_setting AS s
            CROSS JOIN LATERAL unnest(s.setconfig) AS setting
            WHERE s.setrole IN (0, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = 'postgres'))
            AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
            AND starts_with(setting, 'search_path=')
            ORDER BY s.setrole = 0, s.setdatabase = 0
            LIMIT 1
        ),
        (SELECT p.reset_val FROM pg_settings AS p WHERE p.name = 'search_path')
    )
$$;
COMMENT ON FUNCTION creditsd.search_path_of_owner() IS 'The search_path a session of the table''s owner begins with: of the role in this database, the role, the database or the server.';
CREATE FUNCTION creditsd.set_expired(relations oid[], places tid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'on'
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, ' || creditsd.search_path_of_owner(), true);
    UPDATE "public"."user_credits" AS t
    SET "status" = 'expired' -- a bare word: whatever type the column has, or gets, reads it
    FROM ROWS FROM (pg_catalog.unnest(relations), pg_catalog.unnest(places)) AS empty (relation, place)
    WHERE t.ctid OPERATOR(pg_catalog.=) empty.place
    AND t.tableoid OPERATOR(pg_catalog.=) empty.relation;
END
$$;
COMMENT ON FUNCTION creditsd.set_expired(relations oid[], places tid[]) IS 'Sets the expired status on rows by their place, with the search_path the owner of the table has. Called by creditsd.expire_empty.';
CREATE FUNCTION creditsd.signed_in() RETURNS uuid
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    claim jsonb;
BEGIN
    claim := NULLIF(current_setting('request.jwt.claims', true), '')::jsonb -> 'sub';
    -- An object or a list names nobody, where ids are text, too.
    RETURN CASE WHEN jsonb_typeof(claim) IN ('string', 'number') THEN NULLIF(claim #>> '{}', '') END::uuid;
EXCEPTION
    -- Claims that are no JSON, or nested without end, and a claim that is no id of this type: nobody is signed in.
    WHEN data_exception OR program_limit_exceeded THEN
        RETURN NULL;
END
$$;
COMMENT ON FUNCTION creditsd.signed_in() IS 'The signed-in user: the claim of request.jwt.claims, as PostgREST and Supabase set it, that http.jwt_user_claim named at install; null where nobody is, and never an error.';
CREATE FUNCTION creditsd.source_rows(asked uuid DEFAULT NULL::uuid) RETURNS TABLE(user_id uuid, credits numeric, status text, active boolean, plan_type text, subscription boolean, one_time boolean, empty boolean, membership text, subscription_id text, expires_at timestamp with time zone, created_at timestamp with time zone, starts_at timestamp with time zone, left_out boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
#variable_conflict use_column
BEGIN
    IF asked IS NULL THEN
        RETURN QUERY
        SELECT
            line.user_id::uuid, line.credits::numeric, line.status, line.active, line.plan_type, line.subscription,
            line.one_time, line.empty, line.membership, line.subscription_id, line.expires_at, line.created_at,
            line.starts_at, line.left_out
        FROM (
                SELECT
                    t."user_id" AS user_id,
                    creditsd.amount(t."credits") AS credits,
                    t."status"::text AS status,
                    (t."status"::text = ANY ('{"active"}'::text[])) IS TRUE AS active,
                    t."plan_type"::text AS plan_type,
                    (t."plan_type"::text = ANY ('{"subscription"}'::text[])) IS TRUE AS subscription,
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[])) IS TRUE AS one_time,
                    -- Below zero is a debt, which is not empty.
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[]) AND creditsd.amount(t."credits") = 0) IS TRUE AS empty,
                    CASE WHEN octet_length(t."membership"::text) <= 1000 THEN t."membership"::text ELSE left(t."membership"::text, 1000) || '...' END AS membership,
                    CASE WHEN octet_length(t."subscription_id"::text) <= 1000 THEN t."subscription_id"::text ELSE left(t."subscription_id"::text, 1000) || '...' END AS subscription_id,
                    CASE WHEN t."expires_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."expires_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."expires_at"::timestamptz END AS expires_at,
                    CASE WHEN t."created_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."created_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."created_at"::timestamptz END AS created_at,
                    NULL::timestamptz AS starts_at,
                    false AS left_out
                FROM "public"."user_credits" AS t
        ) AS line;
    ELSE
        RETURN QUERY
        SELECT
            line.user_id::uuid, line.credits::numeric, line.status, line.active, line.plan_type, line.subscription,
            line.one_time, line.empty, line.membership, line.subscription_id, line.expires_at, line.created_at,
            line.starts_at, line.left_out
        FROM (
                SELECT
                    t."user_id" AS user_id,
                    creditsd.amount(t."credits") AS credits,
                    t."status"::text AS status,
                    (t."status"::text = ANY ('{"active"}'::text[])) IS TRUE AS active,
                    t."plan_type"::text AS plan_type,
                    (t."plan_type"::text = ANY ('{"subscription"}'::text[])) IS TRUE AS subscription,
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[])) IS TRUE AS one_time,
                    -- Below zero is a debt, which is not empty.
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[]) AND creditsd.amount(t."credits") = 0) IS TRUE AS empty,
                    CASE WHEN octet_length(t."membership"::text) <= 1000 THEN t."membership"::text ELSE left(t."membership"::text, 1000) || '...' END AS membership,
                    CASE WHEN octet_length(t."subscription_id"::text) <= 1000 THEN t."subscription_id"::text ELSE left(t."subscription_id"::text, 1000) || '...' END AS subscription_id,
                    CASE WHEN t."expires_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."expires_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."expires_at"::timestamptz END AS expires_at,
                    CASE WHEN t."created_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."created_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."created_at"::timestamptz END AS created_at,
                    NULL::timestamptz AS starts_at,
                    false AS left_out
                FROM "public"."user_credits" AS t
        ) AS line
        WHERE line.user_id = asked;
    END IF;
END
$$;
COMMENT ON FUNCTION creditsd.source_rows(asked uuid) IS 'The rows of one user, or (null) all rows, in creditsd''s words. An error where row level security would hide some.';
CREATE FUNCTION creditsd.summable(users uuid[], instant timestamp with time zone, can_buy_policy text, expire_empty text) RETURNS uuid[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    each_user uuid;
    able uuid[] := ARRAY[]::uuid[];
BEGIN
    FOREACH each_user IN ARRAY creditsd.keepable(users) LOOP
        BEGIN
            PERFORM creditsd.totals(ARRAY[each_user], instant, can_buy_policy, expire_empty);
            able := able || each_user;
        EXCEPTION
            -- What the rows hold, not what the table is: that would be everyone's.
            WHEN data_exception OR program_limit_exceeded OR integrity_constraint_violation OR syntax_error OR invalid_name
                OR SQLSTATE '02000' OR cardinality_violation OR case_not_found OR plpgsql_error
            THEN
                PERFORM creditsd.note_problem(each_user, 'not summed', SQLERRM);
        END;
    END LOOP;
    RETURN able;
END
$$;
COMMENT ON FUNCTION creditsd.summable(users uuid[], instant timestamp with time zone, can_buy_policy text, expire_empty text) IS 'Those of the users whose rows can be summed up; the others are noted in problems, and keep the total they have.';
CREATE FUNCTION creditsd.tidy_history(history_days integer) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    AS $_$
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
        AND c.relname ~ '^history_\d{8}$'
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
$_$;
COMMENT ON FUNCTION creditsd.tidy_history(history_days integer) IS 'Opens today''s and tomorrow''s partition of history (with history_days = 0 none), drops the oldest once all of it is older than history_days, deletes a bounded number of such rows without a partition. Gives up a lock after 100 ms.';
CREATE FUNCTION creditsd.totals(users uuid[], instant timestamp with time zone, can_buy_policy text, expire_empty text) RETURNS SETOF creditsd.total
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 10
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        asked.user_id,
        trim_scale(coalesce(summed.credits, 0)::numeric),
        CASE WHEN summed.user_id IS NULL THEN 'none' ELSE (summed.first).membership_status END,
        CASE WHEN summed.user_id IS NULL THEN 'none' ELSE (summed.first).plan_type END,
        CASE can_buy_policy
            WHEN 'always' THEN true
            WHEN 'no_credits' THEN coalesce(summed.credits, 0) <= 0
            ELSE (summed.first).can_buy IS NOT FALSE
        END,
        summed.has_ever_had_subscription IS TRUE,
        (summed.first).subscription_id,
        (summed.first).membership,
        (summed.first).expires_at,
        summed.changes_at,
        coalesce(summed.empties, 0)
    FROM unnest(users) AS asked (user_id)
    LEFT JOIN (
        SELECT
            rated.user_id,
            -- The primary row comes first, if any counts. As a total of its own it says what the user has, but for the sums.
            (array_agg(
                CASE WHEN rated.counts THEN
                    ROW(
                        rated.user_id, rated.credits, 'active',
                        CASE WHEN rated.subscription THEN 'subscription' WHEN rated.one_time THEN 'one_time' ELSE 'none' END,
                        NOT rated.subscription, rated.subscription,
                        rated.subscription_id, rated.membership, rated.expires_at, rated.expires_at, 0
                    )::creditsd.total
                ELSE
                    ROW(rated.user_id, 0, 'expired', 'none', true, false, NULL, NULL, NULL, NULL, 0)::creditsd.total
                END
            ))[1] AS first,
            sum(rated.credits) FILTER (WHERE rated.counts) AS credits,
            bool_or(rated.subscription) AS has_ever_had_subscription,
            min(rated.expires_at) FILTER (WHERE rated.counts) AS changes_at,
            count(*) FILTER (WHERE rated.active AND rated.empty) AS empties
        FROM (
            -- Not an outer join: below one, the rows of users nobody asked for may be read in our words as well, and what they
            -- hold may raise an error. One sort for the whole batch finds every user's primary row; an ordered aggregate would
            -- sort once a user.
            SELECT
                line.user_id,
                line.credits,
                line.active,
                line.subscription,
                line.one_time,
                line.empty,
                line.membership,
                line.subscription_id,
                line.starts_at,
                line.expires_at,
                creditsd.counts(line.active, line.empty, line.starts_at, line.expires_at, instant, expire_empty) AS counts
            FROM unnest(users) AS wanted (user_id)
            JOIN (
                SELECT
                    t."user_id" AS user_id,
                    creditsd.amount(t."credits") AS credits,
                    t."status"::text AS status,
                    (t."status"::text = ANY ('{"active"}'::text[])) IS TRUE AS active,
                    t."plan_type"::text AS plan_type,
                    (t."plan_type"::text = ANY ('{"subscription"}'::text[])) IS TRUE AS subscription,
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[])) IS TRUE AS one_time,
                    -- Below zero is a debt, which is not empty.
                    (t."plan_type"::text = ANY ('{"one_time"}'::text[]) AND creditsd.amount(t."credits") = 0) IS TRUE AS empty,
                    CASE WHEN octet_length(t."membership"::text) <= 1000 THEN t."membership"::text ELSE left(t."membership"::text, 1000) || '...' END AS membership,
                    CASE WHEN octet_length(t."subscription_id"::text) <= 1000 THEN t."subscription_id"::text ELSE left(t."subscription_id"::text, 1000) || '...' END AS subscription_id,
                    CASE WHEN t."expires_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."expires_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."expires_at"::timestamptz END AS expires_at,
                    CASE WHEN t."created_at" >= '9999-12-31 00:00:00+00'::timestamptz THEN NULL WHEN t."created_at" < '0001-01-03 00:00:00+00'::timestamptz THEN '0001-01-02 00:00:00+00'::timestamptz ELSE t."created_at"::timestamptz END AS created_at,
                    NULL::timestamptz AS starts_at,
                    false AS left_out
                FROM "public"."user_credits" AS t
            ) AS line ON line.user_id = wanted.user_id
            ORDER BY
                line.user_id,
                counts DESC,
                line.subscription DESC,
                line.expires_at DESC NULLS FIRST,
                line.created_at DESC NULLS LAST,
                line.subscription_id,
                line.membership,
                line.one_time DESC
        ) AS rated
        GROUP BY rated.user_id
    ) AS summed ON summed.user_id = asked.user_id;
END
$$;
COMMENT ON FUNCTION creditsd.totals(users uuid[], instant timestamp with time zone, can_buy_policy text, expire_empty text) IS 'The rules: the total of each asked user at an instant, of the rows that count (see creditsd.counts).';
CREATE FUNCTION creditsd.totals_now(users uuid[], can_buy_policy text, expire_empty text) RETURNS SETOF creditsd.total
    LANGUAGE plpgsql SECURITY DEFINER ROWS 10
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    LOCK TABLE "public"."user_credits" IN ACCESS SHARE MODE;
    RETURN QUERY
    SELECT t.*
    FROM creditsd.totals(users, clock_timestamp(), can_buy_policy, expire_empty) AS t;
END
$$;
COMMENT ON FUNCTION creditsd.totals_now(users uuid[], can_buy_policy text, expire_empty text) IS 'The total of each asked user as it is now.';
CREATE FUNCTION creditsd.users_after(last_user uuid, max_users integer) RETURNS uuid[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    IF last_user IS NULL THEN
        RETURN ARRAY(
            SELECT both_sides.user_id
            FROM (
                (SELECT DISTINCT t."user_id" AS user_id FROM "public"."user_credits" AS t WHERE t."user_id" IS NOT NULL ORDER BY 1 LIMIT max_users)
                UNION
                (SELECT b.user_id FROM creditsd.balances AS b ORDER BY b.user_id LIMIT max_users)
            ) AS both_sides
            ORDER BY both_sides.user_id
            LIMIT max_users
        );
    END IF;
    RETURN ARRAY(
        SELECT both_sides.user_id
        FROM (
            (SELECT DISTINCT t."user_id" AS user_id FROM "public"."user_credits" AS t WHERE t."user_id" > last_user ORDER BY 1 LIMIT max_users)
            UNION
            (SELECT b.user_id FROM creditsd.balances AS b WHERE b.user_id > last_user ORDER BY b.user_id LIMIT max_users)
        ) AS both_sides
        ORDER BY both_sides.user_id
        LIMIT max_users
    );
END
$$;
COMMENT ON FUNCTION creditsd.users_after(last_user uuid, max_users integer) IS 'The next max_users users after one (null: the first), in order: whoever has rows in the table, and whoever had.';
CREATE FUNCTION creditsd.users_estimated() RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
BEGIN
    IF coalesce((SELECT c.reltuples FROM pg_class AS c WHERE c.oid = '"public"."user_credits"'::regclass), -1) < 3000000 THEN
        RETURN (SELECT count(DISTINCT t."user_id") FROM "public"."user_credits" AS t);
    END IF;
    RETURN (
        SELECT GREATEST(1, CASE WHEN p.n_distinct < 0 THEN -p.n_distinct * c.reltuples ELSE p.n_distinct END)::bigint
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_stats AS p ON p.schemaname = n.nspname AND p.tablename = c.relname
        WHERE c.oid = '"public"."user_credits"'::regclass
        AND p.attname = 'user_id'
        ORDER BY p.inherited DESC
        LIMIT 1
    );
END
$$;
COMMENT ON FUNCTION creditsd.users_estimated() IS 'About how many users there are: counted where that is quick, else from the statistics.';
CREATE TABLE creditsd.attempts (
    sink text NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    user_id uuid,
    users integer NOT NULL,
    webhook_id text NOT NULL,
    status integer,
    milliseconds integer NOT NULL,
    result text NOT NULL,
    answer text NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000');
COMMENT ON TABLE creditsd.attempts IS 'Requests to webhooks, each sink''s newest of one day: written by the daemon apart from the delivery, so a few may be missing after it was killed.';
COMMENT ON COLUMN creditsd.attempts.number IS 'Their order.';
COMMENT ON COLUMN creditsd.attempts.user_id IS 'Of whom it told; null where it told of several.';
COMMENT ON COLUMN creditsd.attempts.users IS 'Of how many users it told.';
COMMENT ON COLUMN creditsd.attempts.status IS 'The status of the answer; null where there was none.';
COMMENT ON COLUMN creditsd.attempts.result IS 'arrived, refused, troubled (the receiver broke over it), unavailable, or gone.';
COMMENT ON COLUMN creditsd.attempts.answer IS 'The first bytes of the answer, made printable, without our secrets; or why there was none.';
ALTER TABLE creditsd.attempts ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME creditsd.attempts_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE creditsd.changes (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    user_id uuid NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1', autovacuum_analyze_threshold='1000000000', vacuum_truncate=off);
ALTER TABLE ONLY creditsd.changes REPLICA IDENTITY FULL;
COMMENT ON TABLE creditsd.changes IS 'Look at this user again: written by the triggers, with the change itself. Says nothing about what changed; rows may repeat.';
COMMENT ON COLUMN creditsd.changes.xid IS 'The transaction that wrote the change; the reader keeps a snapshot of those it has read.';
CREATE TABLE creditsd.deliveries (
    sink text NOT NULL,
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    attempt integer NOT NULL,
    next_at timestamp with time zone,
    last_status integer,
    last_error text NOT NULL,
    refused_at timestamp with time zone DEFAULT now() NOT NULL,
    tried_at timestamp with time zone DEFAULT now() NOT NULL,
    events_after bigint DEFAULT 0 NOT NULL,
    accepted jsonb DEFAULT '{}'::jsonb NOT NULL,
    in_order boolean DEFAULT false NOT NULL,
    pulled_forward boolean DEFAULT false NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_threshold='1000');
COMMENT ON TABLE creditsd.deliveries IS 'Totals that a sink refused: at most one a user, the newest. Tried again at next_at; without one it is a dead letter.';
COMMENT ON COLUMN creditsd.deliveries.version IS 'The total that was refused; a newer one that arrives takes this row away.';
COMMENT ON COLUMN creditsd.deliveries.attempt IS 'How often this version was tried.';
COMMENT ON COLUMN creditsd.deliveries.next_at IS 'When it is tried again; null once the schedule is at its end.';
COMMENT ON COLUMN creditsd.deliveries.refused_at IS 'When this version was refused first.';
COMMENT ON COLUMN creditsd.deliveries.events_after IS 'Whatever happened to this user up to this version had been told before the first refusal; stays when a newer total takes the row over.';
COMMENT ON COLUMN creditsd.deliveries.accepted IS 'What the sink has taken since: each type of event with the version that brought it. It is not told again.';
COMMENT ON COLUMN creditsd.deliveries.in_order IS 'The sink is told every step: later steps of this user wait behind this one, instead of taking its place.';
COMMENT ON COLUMN creditsd.deliveries.pulled_forward IS 'Whether this version was tried ahead of its schedule, because the sink was well again; that happens once and costs no try.';
CREATE TABLE creditsd.history (
    version bigint NOT NULL,
    user_id uuid NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    credits numeric NOT NULL,
    membership_status text NOT NULL,
    plan_type text NOT NULL,
    can_buy boolean NOT NULL,
    has_ever_had_subscription boolean NOT NULL,
    subscription_id text,
    membership text,
    expires_at timestamp with time zone,
    cause text NOT NULL,
    previous creditsd.past,
    events jsonb,
    level text,
    low_credits numeric
)
PARTITION BY RANGE (version);
COMMENT ON TABLE creditsd.history IS 'Every total that was ever published, while [history] days lasts: written with balances, in the same transaction. A partition a day (UTC), by version.';
COMMENT ON COLUMN creditsd.history.version IS 'As in balances; at least the microseconds since 1970 when it was made, so it tells the day.';
COMMENT ON COLUMN creditsd.history.cause IS 'Why this version exists: change, expiry, auto-expire, backfill or repair.';
COMMENT ON COLUMN creditsd.history.previous IS 'The total before this version; null for the first.';
COMMENT ON COLUMN creditsd.history.events IS 'What has happened and still stood, as in balances.';
CREATE TABLE creditsd.history_kept (
    single boolean DEFAULT true NOT NULL,
    days integer NOT NULL,
    whole_after bigint NOT NULL,
    upto bigint NOT NULL,
    CONSTRAINT history_kept_single_check CHECK (single)
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');
COMMENT ON TABLE creditsd.history_kept IS 'One row, once history was on: how far back it goes.';
COMMENT ON COLUMN creditsd.history_kept.days IS 'How long steps are kept; also what is left of them after history was turned off.';
COMMENT ON COLUMN creditsd.history_kept.whole_after IS 'No version after this one, up to upto, is missing from history.';
COMMENT ON COLUMN creditsd.history_kept.upto IS 'The newest version that is a step; a newer total was stored with history off.';
CREATE TABLE creditsd.history_rest (
    version bigint NOT NULL,
    user_id uuid NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    credits numeric NOT NULL,
    membership_status text NOT NULL,
    plan_type text NOT NULL,
    can_buy boolean NOT NULL,
    has_ever_had_subscription boolean NOT NULL,
    subscription_id text,
    membership text,
    expires_at timestamp with time zone,
    cause text NOT NULL,
    previous creditsd.past,
    events jsonb,
    level text,
    low_credits numeric
);
COMMENT ON TABLE creditsd.history_rest IS 'Steps of days that have no partition: because it could not be opened in time, or because versions are ahead of the clock.';
CREATE TABLE creditsd.installation (
    single boolean DEFAULT true NOT NULL,
    migration integer NOT NULL,
    digest text NOT NULL,
    source jsonb NOT NULL,
    role text NOT NULL,
    installed_at timestamp with time zone DEFAULT now() NOT NULL,
    functions text DEFAULT ''::text NOT NULL,
    CONSTRAINT installation_single_check CHECK (single)
);
COMMENT ON TABLE creditsd.installation IS 'One row: what is installed here, and for which table.';
COMMENT ON COLUMN creditsd.installation.migration IS 'The number of the newest migration applied.';
COMMENT ON COLUMN creditsd.installation.digest IS 'Of the SQL of the functions and the triggers.';
COMMENT ON COLUMN creditsd.installation.source IS 'The table, columns and words that the view source and the triggers were made from.';
COMMENT ON COLUMN creditsd.installation.role IS 'The restricted role that was granted what the daemon needs; empty for none.';
COMMENT ON COLUMN creditsd.installation.functions IS 'Of the functions as they were made; differs once somebody has replaced one.';
CREATE TABLE creditsd.problems (
    user_id uuid NOT NULL,
    problem text NOT NULL,
    reason text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');
COMMENT ON TABLE creditsd.problems IS 'Users that are set aside while all others go on; a row goes by itself once the user''s rows are as they should be.';
COMMENT ON COLUMN creditsd.problems.problem IS 'not summed: the rows raise an error, so the total stays as it was. not expired: the table refuses the expired status. id too long: no index holds it; user_id is its beginning.';
COMMENT ON COLUMN creditsd.problems.reason IS 'What PostgreSQL said.';
COMMENT ON COLUMN creditsd.problems.seen_at IS 'When it was so the last time.';
CREATE TABLE creditsd.reader (
    single boolean DEFAULT true NOT NULL,
    snapshot pg_snapshot NOT NULL,
    purged pg_snapshot NOT NULL,
    system_identifier bigint NOT NULL,
    timeline integer NOT NULL,
    started_at timestamp with time zone NOT NULL,
    policy text NOT NULL,
    fingerprint text NOT NULL,
    resync_cause text,
    resync_after text,
    resync_users bigint DEFAULT 0 NOT NULL,
    saved_at timestamp with time zone DEFAULT now() NOT NULL,
    version_floor bigint DEFAULT 0 NOT NULL,
    resync_republishes boolean DEFAULT false NOT NULL,
    home text DEFAULT ''::text NOT NULL,
    CONSTRAINT reader_single_check CHECK (single)
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');
COMMENT ON TABLE creditsd.reader IS 'One row: how far the daemon has read, and of which server.';
COMMENT ON COLUMN creditsd.reader.snapshot IS 'Every change visible in this snapshot has been recomputed.';
COMMENT ON COLUMN creditsd.reader.purged IS 'Every change visible in this snapshot has been deleted from changes.';
COMMENT ON COLUMN creditsd.reader.system_identifier IS 'The server it was read from; another one means a restore. 0: we may not know.';
COMMENT ON COLUMN creditsd.reader.timeline IS 'Changes with a failover. 0: we may not know.';
COMMENT ON COLUMN creditsd.reader.started_at IS 'When that server had started; later means that it restarted since.';
COMMENT ON COLUMN creditsd.reader.policy IS 'can_buy, expire_empty and events in force; a change recomputes everyone.';
COMMENT ON COLUMN creditsd.reader.fingerprint IS 'The table, its triggers, columns and partitions, and our functions, when everyone was last begun to be recomputed; see creditsd.fingerprint.';
COMMENT ON COLUMN creditsd.reader.resync_cause IS 'Why everyone is being recomputed; null when nobody is.';
COMMENT ON COLUMN creditsd.reader.resync_after IS 'The last user that this resync has done; null at its beginning.';
COMMENT ON COLUMN creditsd.reader.resync_users IS 'How many users this resync has done.';
COMMENT ON COLUMN creditsd.reader.version_floor IS 'No version is given at or below this one: it was given out by a server that was lost, or to somebody who is forgotten.';
COMMENT ON COLUMN creditsd.reader.resync_republishes IS 'Whether this resync gives everyone a new version, changed or not.';
COMMENT ON COLUMN creditsd.reader.home IS 'Where this row was written, see creditsd.home: elsewhere it is of another history. Empty until a daemon leads.';
CREATE TABLE creditsd.repairs (
    user_id uuid NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');
COMMENT ON TABLE creditsd.repairs IS 'Tell everywhere of this user again, with a new version: written by "creditsd verify --repair", done and deleted by the daemon.';
CREATE TABLE creditsd.resyncs (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    cause text NOT NULL
);
ALTER TABLE ONLY creditsd.resyncs REPLICA IDENTITY FULL;
COMMENT ON TABLE creditsd.resyncs IS 'Look at everyone again: written by the truncate trigger and by "creditsd backfill".';
CREATE TABLE creditsd.sinks (
    name text NOT NULL,
    cursor bigint DEFAULT 0 NOT NULL,
    delivered bigint DEFAULT 0 NOT NULL,
    last_error text,
    last_error_at timestamp with time zone,
    saved_at timestamp with time zone DEFAULT now() NOT NULL,
    paused_at timestamp with time zone,
    disabled_reason text,
    failing_since timestamp with time zone,
    events_after bigint,
    served_by integer
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');
COMMENT ON TABLE creditsd.sinks IS 'How far each sink has been told; a sink that is not configured any more keeps its row.';
COMMENT ON COLUMN creditsd.sinks.cursor IS 'Every balance up to this version has arrived there.';
COMMENT ON COLUMN creditsd.sinks.delivered IS 'How many totals have arrived, repetitions included.';
COMMENT ON COLUMN creditsd.sinks.last_error IS 'Why it stands still; null while it does not.';
COMMENT ON COLUMN creditsd.sinks.paused_at IS 'Since when nothing is delivered, because somebody said so; null while it is.';
COMMENT ON COLUMN creditsd.sinks.disabled_reason IS 'Why we stopped by ourselves; null where we did not.';
COMMENT ON COLUMN creditsd.sinks.failing_since IS 'The first failure after which nothing has arrived; null once something does.';
COMMENT ON COLUMN creditsd.sinks.events_after IS 'Whatever happened up to this version has been told there. Behind cursor while the sink catches up: a total further on may still carry what happened before. Null: the same as cursor.';
COMMENT ON COLUMN creditsd.sinks.served_by IS 'The server process of the leader that delivers there: whoever has other settings than the daemon can tell it from a sink nobody serves.';
CREATE VIEW creditsd.source AS
 SELECT user_id,
    credits,
    status,
    active,
    plan_type,
    subscription,
    one_time,
    empty,
    membership,
    subscription_id,
    expires_at,
    created_at,
    starts_at,
    left_out
   FROM creditsd.source_rows() line(user_id, credits, status, active, plan_type, subscription, one_time, empty, membership, subscription_id, expires_at, created_at, starts_at, left_out);
COMMENT ON VIEW creditsd.source IS 'The table of credits in creditsd''s words: its columns, active (of an active status, and not left out), subscription, one_time and empty (a one-time row with zero credits), an end that never comes as null, left_out (by source.where). Reads the whole table; creditsd.source_rows(user_id) reads one user''s rows by an index. Nothing here keeps the application from altering its table.';
CREATE TABLE public.user_credits (
    id bigint NOT NULL,
    user_id uuid,
    credits integer,
    status text,
    plan_type text,
    membership text,
    subscription_id text,
    expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now()
);
CREATE SEQUENCE public.user_credits_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.user_credits_id_seq OWNED BY public.user_credits.id;
ALTER TABLE ONLY creditsd.history ATTACH PARTITION creditsd.history_rest DEFAULT;
ALTER TABLE ONLY public.user_credits ALTER COLUMN id SET DEFAULT nextval('public.user_credits_id_seq'::regclass);
ALTER TABLE ONLY creditsd.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (sink, number);
ALTER TABLE ONLY creditsd.balances
    ADD CONSTRAINT balances_pkey PRIMARY KEY (user_id);
ALTER TABLE ONLY creditsd.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (sink, user_id);
ALTER TABLE ONLY creditsd.history_kept
    ADD CONSTRAINT history_kept_pkey PRIMARY KEY (single);
ALTER TABLE ONLY creditsd.history
    ADD CONSTRAINT history_pkey PRIMARY KEY (version);
ALTER TABLE ONLY creditsd.history_rest
    ADD CONSTRAINT history_rest_pkey PRIMARY KEY (version);
ALTER TABLE ONLY creditsd.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (single);
ALTER TABLE ONLY creditsd.problems
    ADD CONSTRAINT problems_pkey PRIMARY KEY (user_id, problem);
ALTER TABLE ONLY creditsd.reader
    ADD CONSTRAINT reader_pkey PRIMARY KEY (single);
ALTER TABLE ONLY creditsd.repairs
    ADD CONSTRAINT repairs_pkey PRIMARY KEY (user_id);
ALTER TABLE ONLY creditsd.sinks
    ADD CONSTRAINT sinks_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.user_credits
    ADD CONSTRAINT user_credits_pkey PRIMARY KEY (id);
CREATE INDEX balances_recheck_at ON creditsd.balances USING btree (recheck_at) WHERE (recheck_at IS NOT NULL);
COMMENT ON INDEX creditsd.balances_recheck_at IS 'The expiry timer: the earliest is next.';
CREATE UNIQUE INDEX balances_version ON creditsd.balances USING btree (version);
COMMENT ON INDEX creditsd.balances_version IS 'The order in which publishers read.';
CREATE INDEX changes_xid_user_id ON creditsd.changes USING btree (xid, user_id);
COMMENT ON INDEX creditsd.changes_xid_user_id IS 'The order in which changes are read and purged.';
CREATE INDEX deliveries_next_at ON creditsd.deliveries USING btree (sink, next_at) WHERE (next_at IS NOT NULL);
COMMENT ON INDEX creditsd.deliveries_next_at IS 'The order in which a sink''s deliveries are tried again.';
COMMENT ON INDEX creditsd.history_pkey IS 'The order in which a sink that wants every step is told.';
CREATE INDEX history_user_id_version ON ONLY creditsd.history USING btree (user_id, version);
COMMENT ON INDEX creditsd.history_user_id_version IS 'One user''s steps in their order.';
CREATE INDEX history_rest_user_id_version_idx ON creditsd.history_rest USING btree (user_id, version);
CREATE INDEX user_credits_user_id ON public.user_credits USING btree (user_id);
ALTER INDEX creditsd.history_pkey ATTACH PARTITION creditsd.history_rest_pkey;
ALTER INDEX creditsd.history_user_id_version ATTACH PARTITION creditsd.history_rest_user_id_version_idx;
CREATE TRIGGER creditsd_delete AFTER DELETE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION creditsd.capture_delete();
ALTER TABLE public.user_credits ENABLE ALWAYS TRIGGER creditsd_delete;
CREATE TRIGGER creditsd_insert AFTER INSERT ON public.user_credits FOR EACH ROW EXECUTE FUNCTION creditsd.capture_insert();
ALTER TABLE public.user_credits ENABLE ALWAYS TRIGGER creditsd_insert;
CREATE TRIGGER creditsd_truncate AFTER TRUNCATE ON public.user_credits FOR EACH STATEMENT EXECUTE FUNCTION creditsd.capture_truncate();
ALTER TABLE public.user_credits ENABLE ALWAYS TRIGGER creditsd_truncate;
CREATE TRIGGER creditsd_update AFTER UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION creditsd.capture_update();
ALTER TABLE public.user_credits ENABLE ALWAYS TRIGGER creditsd_update;
CREATE POLICY balances_own ON creditsd.balances FOR SELECT USING ((user_id = ( SELECT creditsd.signed_in() AS signed_in)));
COMMENT ON POLICY balances_own ON creditsd.balances IS 'A signed-in user (sub of request.jwt.claims, as PostgREST and Supabase set it) sees their own row.';
CREATE POLICY history_own ON creditsd.history FOR SELECT USING ((user_id = ( SELECT creditsd.signed_in() AS signed_in)));
COMMENT ON POLICY history_own ON creditsd.history IS 'A signed-in user (sub of request.jwt.claims, as PostgREST and Supabase set it) sees their own steps.';
REVOKE ALL ON FUNCTION creditsd.amount(credits smallint) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.amount(credits integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.amount(credits bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.amount(credits numeric) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.begin_resync(cause text, republish boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.capture_delete() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.capture_insert() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.capture_truncate() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.capture_update() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.counts(active boolean, empty boolean, starts_at timestamp with time zone, expires_at timestamp with time zone, instant timestamp with time zone, expire_empty text) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.differs(stored creditsd.balances, computed creditsd.total) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.level_differs(stored creditsd.balances, level text, low_credits numeric) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.level_of(credits numeric, before text, low_at numeric, recovered_at numeric) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.low_at(event_policy jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.recovered_at(event_policy jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.level_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.low_told(event_policy jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.differs_now(stored creditsd.balances, computed creditsd.total, event_policy jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.drain(since pg_snapshot, upto pg_snapshot, pass_page integer, max_changes integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.drain_few(since pg_snapshot, newest_known bigint, due_known timestamp with time zone, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.due_seconds() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.events_after(was creditsd.balances, now_membership_status text, now_expires_at timestamp with time zone, next_version bigint, is_news boolean, level text, crossing text, low_at numeric, recovered_at numeric, expired boolean, ending boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.expire_empty(users uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.fingerprint() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.forget(forgotten uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.functions_digest(comments boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.guard() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.heartbeat(proof text) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.home() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.keepable(users uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.mark_everyone() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.note_problem(whose uuid, what text, why text) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.nothing_matches() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.purge(upto pg_snapshot, after_xid xid8, after_user uuid, max_changes integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.recompute(users uuid[], reason text, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, republish boolean, history_days integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.recompute_due(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.resume(policy_now text, floor_version bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.resync_next(max_users integer, can_buy_policy text, expire_empty text, empty_seconds double precision, event_policy jsonb, history_days integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.search_path_of_owner() FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.set_expired(relations oid[], places tid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.source_rows(asked uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.summable(users uuid[], instant timestamp with time zone, can_buy_policy text, expire_empty text) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.tidy_history(history_days integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.totals(users uuid[], instant timestamp with time zone, can_buy_policy text, expire_empty text) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.totals_now(users uuid[], can_buy_policy text, expire_empty text) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.users_after(last_user uuid, max_users integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION creditsd.users_estimated() FROM PUBLIC;
