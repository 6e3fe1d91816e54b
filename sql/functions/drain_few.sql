-- The short way of creditsd.drain, for the few users of a quiet moment. Whatever a statement might need is set up anew for each call, and
-- for one user that is most of the work: so this knows the rules for whoever is plain, and leaves all others to recompute, in the same
-- call. Where it is not the place at all it says so before it has stored anything, and the caller drains as usual.
CREATE FUNCTION creditsd.drain_few(
    since pg_snapshot,
    newest_known bigint,
    due_known timestamptz,
    can_buy_policy text,
    expire_empty text,
    empty_seconds double precision,
    event_policy jsonb
)
RETURNS TABLE (
    snapshot pg_snapshot,
    changes integer,
    users integer,
    due_at timestamptz,
    clock timestamptz,
    total creditsd.balances
)
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    instant timestamptz;
    marked {user_id_type}[];
    marked_user {user_id_type};
    done {user_id_type}[];
    left_over {user_id_type}[];
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
                    WHEN line.active AND (line.empty AND expire_empty <> 'off'{or_begins}) THEN '-Infinity'::numeric
                    WHEN line.active AND (line.expires_at IS NULL OR line.expires_at > instant) THEN coalesce(line.credits, 0)
                END AS counted,
                line.subscription,
                line.one_time,
                line.membership,
                line.subscription_id,
                line.expires_at
            FROM (
{source}
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
$function$;

COMMENT ON FUNCTION creditsd.drain_few IS
'What creditsd.drain does where at most 4 changes are visible and nobody asks for anything else, for less: recomputes the users of all that is visible now and not in since. newest_known and due_known (infinity for none) are what the caller believes, and are checked. Rows: the totals that changed, then one with the snapshot; or, with nothing done, a single row without one.';
