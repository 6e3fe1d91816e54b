-- One batch in one call, in five steps: read the next changes after a snapshot, heed what asks for everyone, recompute whom somebody
-- asked for, recompute those who changed, return the position. `running` below is a transaction that was in progress in the old snapshot;
-- all of those are older than every new one, so the order (xid, user_id) is one over both parts, and a page can end anywhere in it.
CREATE FUNCTION creditsd.drain(
    since pg_snapshot,
    upto pg_snapshot,
    after_xid xid8,
    after_user {user_id_type},
    pass_version bigint,
    max_changes integer,
    can_buy_policy text,
    expire_empty text,
    empty_seconds double precision,
    event_policy jsonb,
    history_days integer
)
RETURNS TABLE (
    page jsonb,
    total creditsd.balances
)
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    target pg_snapshot := coalesce(upto, pg_current_snapshot());
    first_new xid8 := pg_snapshot_xmax(since);
    room integer := max_changes;
    next_xid xid8 := after_xid;
    next_user {user_id_type} := after_user;
    users {user_id_type}[] := ARRAY[]::{user_id_type}[];
    found_users {user_id_type}[];
    repaired {user_id_type}[] := ARRAY[]::{user_id_type}[];
    running xid8;
    resync text;
    resyncing text;
    has_repairs boolean;
BEGIN
    -- 1. Read: those that were in progress then and are visible now, which come before every newer one;
    IF pg_snapshot_xmin(since) < first_new THEN
        FOR running IN
            SELECT x
            FROM pg_snapshot_xip(since) AS x
            WHERE after_xid IS NULL OR x >= after_xid
            ORDER BY x
        LOOP
            EXIT WHEN room <= 0;
            CONTINUE WHEN NOT pg_visible_in_snapshot(running, target);
            IF running = after_xid THEN
                found_users := ARRAY(
                    SELECT c.user_id
                    FROM creditsd.changes AS c
                    WHERE c.xid = running
                    AND c.user_id > after_user
                    ORDER BY c.user_id
                    LIMIT room
                );
            ELSE
                found_users := ARRAY(
                    SELECT c.user_id
                    FROM creditsd.changes AS c
                    WHERE c.xid = running
                    ORDER BY c.user_id
                    LIMIT room
                );
            END IF;
            IF cardinality(found_users) > 0 THEN
                room := room - cardinality(found_users);
                users := users || found_users;
                next_xid := running;
                next_user := found_users[cardinality(found_users)];
            END IF;
        END LOOP;
    END IF;
    -- and those that began since.
    IF room > 0 THEN
        IF next_xid IS NULL OR next_xid < first_new THEN
            SELECT array_agg(n.user_id), (array_agg(n.xid))[count(*)::integer]
            INTO found_users, running
            FROM (
                SELECT c.xid, c.user_id
                FROM creditsd.changes AS c
                WHERE c.xid >= first_new
                AND c.xid < pg_snapshot_xmax(target)
                AND pg_visible_in_snapshot(c.xid, target)
                ORDER BY c.xid, c.user_id
                LIMIT room
            ) AS n;
        ELSE
            SELECT array_agg(n.user_id), (array_agg(n.xid))[count(*)::integer]
            INTO found_users, running
            FROM (
                SELECT c.xid, c.user_id
                FROM creditsd.changes AS c
                WHERE (c.xid, c.user_id) > (next_xid, next_user)
                AND c.xid < pg_snapshot_xmax(target)
                AND pg_visible_in_snapshot(c.xid, target)
                ORDER BY c.xid, c.user_id
                LIMIT room
            ) AS n;
        END IF;
        IF cardinality(found_users) > 0 THEN
            room := room - cardinality(found_users);
            users := users || found_users;
            next_xid := running;
            next_user := found_users[cardinality(found_users)];
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
    IF room <= 0 AND upto IS NULL THEN
        -- A pass of many pages begins. Nobody stores a total now: the lock is ours until the end.
        PERFORM pg_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 561984073);
        pass_version := coalesce((SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1), 0);
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
        IF upto IS NOT NULL THEN
            -- Who was stored since the pass began was summed up by a later look than the one that shows these changes.
            users := ARRAY(
                SELECT DISTINCT u
                FROM unnest(users) AS u
                WHERE u <> ALL (repaired)
                AND NOT EXISTS (SELECT FROM creditsd.balances AS b WHERE b.user_id = u AND b.version > pass_version)
                ORDER BY u
            );
        ELSIF cardinality(users) > 1 OR has_repairs THEN
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
        'full', room <= 0 OR cardinality(repaired) >= max_changes,
        'xid', next_xid,
        'user_id', next_user,
        'version', pass_version,
        'changes', max_changes - room,
        'users', cardinality(users),
        'resyncing', resyncing,
        'due_seconds', creditsd.due_seconds(),
        'clock', extract(epoch FROM clock_timestamp())
    );
    total := NULL;
    RETURN NEXT;
END
$function$;

COMMENT ON FUNCTION creditsd.drain IS
'Reads up to max_changes changes that are visible in upto (now, where null) and not in since, after a position; recomputes their users, but for whom the same pass has stored (with a version above pass_version), and those in repairs. Rows: the totals that changed, then one with the page.';
