-- Users to totals: sum, expire, store, return those that changed. One at a time, so versions grow in the order of commits.
CREATE FUNCTION creditsd.recompute(
    users {user_id_type}[],
    reason text,
    can_buy_policy text,
    expire_empty text,
    event_policy jsonb,
    republish boolean,
    history_days integer
)
RETURNS SETOF creditsd.balances
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
#variable_conflict use_column
DECLARE
    instant timestamptz;
    newest bigint;
    computed creditsd.total[];
    emptied {user_id_type}[];
    undone {user_id_type}[];
    retry_after interval := '1 second';
    unkept boolean;
    low_at numeric := event_policy ->> 'low_credits';
    recovered_at numeric := GREATEST(low_at, (event_policy ->> 'recovered_credits')::numeric);
    soon interval := make_interval(secs => 86400 * NULLIF((event_policy ->> 'expiring_soon_days')::double precision, 0));
BEGIN
    -- The lock comes before the statement that reads the truth: of two recomputes the later one reads later.
    PERFORM pg_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 1);
    IF history_days > 0 THEN
        -- Where the newest total is no step, somebody has stored it with history off.
        unkept := NOT EXISTS (
            SELECT
            FROM creditsd.history_kept AS k
            WHERE k.upto >= (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1)
        );
    END IF;
    instant := clock_timestamp();
    newest := GREATEST(
        (extract(epoch FROM instant) * 1000000)::bigint - 1,
        (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1)
    );
    computed := ARRAY(SELECT t FROM creditsd.totals(users, instant, can_buy_policy, expire_empty) AS t);
    IF expire_empty <> 'off' THEN
        emptied := ARRAY(SELECT t.user_id FROM unnest(computed) AS t WHERE t.empties > 0);
        IF cardinality(emptied) > 0 AND expire_empty = 'dry_run' THEN
            RAISE NOTICE 'creditsd would expire the empty one-time rows of % (expire_empty = dry_run)', emptied[1:10];
        ELSIF cardinality(emptied) > 0 THEN
            IF NOT creditsd.expire_empty(emptied) THEN
                retry_after := '1 minute';
            END IF;
            -- Once more, with whatever triggers of the table's own did on the way.
            computed := ARRAY(
                SELECT t
                FROM unnest(computed) AS t
                WHERE t.empties = 0
                UNION ALL
                SELECT t
                FROM creditsd.totals(emptied, instant, can_buy_policy, expire_empty) AS t
            );
            undone := ARRAY(SELECT t.user_id FROM unnest(computed) AS t WHERE t.empties > 0);
        END IF;
    END IF;
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT
            t.user_id,
            t.credits,
            t.membership_status,
            t.plan_type,
            t.can_buy,
            t.has_ever_had_subscription OR o.has_ever_had_subscription IS TRUE AS has_ever_had_subscription,
            t.subscription_id,
            t.membership,
            t.expires_at,
            CASE WHEN expire_empty = 'on' AND t.user_id = ANY (emptied) THEN 'auto-expire' ELSE reason END AS cause,
            LEAST(
                t.ends_at,
                CASE WHEN t.expires_at - soon > instant THEN t.expires_at - soon END,
                CASE WHEN t.user_id = ANY (undone) THEN instant + retry_after END
            ) AS recheck_at,
            newest + t.ordinality AS version,
            o.version AS old_version,
            o.recheck_at AS old_recheck_at,
            o.level AS old_level,
            happened.is_news OR happened.ending AS differs,
            happened.level,
            CASE WHEN happened.ending THEN
                ARRAY(SELECT e FROM unnest(o.ends_told) AS e WHERE e > instant) || t.expires_at
            ELSE
                o.ends_told
            END AS ends_told,
            CASE WHEN happened.crossing IS NOT NULL OR happened.expired OR happened.ending OR o.events IS NOT NULL THEN
                creditsd.events_after(
                    o, t.membership_status, t.expires_at, newest + t.ordinality, happened.is_news,
                    happened.level, happened.crossing, low_at, recovered_at, happened.expired, happened.ending
                )
            END AS events
        FROM unnest(computed) WITH ORDINALITY AS t
        LEFT JOIN creditsd.balances AS o ON o.user_id = t.user_id
        -- OFFSET 0 keeps what is computed once from being written out wherever it is used.
        CROSS JOIN LATERAL (
            SELECT
                republish OR (
                    o.credits, o.membership_status, o.plan_type, o.can_buy, o.has_ever_had_subscription,
                    o.subscription_id, o.membership, o.expires_at
                ) IS DISTINCT FROM (
                    t.credits, t.membership_status, t.plan_type, t.can_buy,
                    t.has_ever_had_subscription OR o.has_ever_had_subscription IS TRUE,
                    t.subscription_id, t.membership, t.expires_at
                ) AS is_news,
                levels.level,
                CASE
                    WHEN o.level IS NULL AND o.credits > recovered_at AND t.credits > recovered_at THEN NULL
                    WHEN o.user_id IS NULL OR levels.level IS NOT DISTINCT FROM levels.before THEN NULL
                    WHEN levels.level = 'depleted' THEN 'credits.depleted'
                    WHEN levels.level IS NULL THEN 'credits.recovered'
                    WHEN levels.before IS NULL THEN 'credits.low'
                END AS crossing,
                (o.membership_status = 'active' AND t.membership_status = 'expired') IS TRUE AS expired,
                (
                    t.expires_at - soon <= instant
                    -- An end that has only just become near: the timer stood before it, or it was another one.
                    AND CASE
                        WHEN o.user_id IS NULL THEN reason <> 'backfill'
                        ELSE o.recheck_at <= t.expires_at - soon OR t.expires_at IS DISTINCT FROM o.expires_at
                    END
                    AND (t.expires_at = ANY (o.ends_told)) IS NOT TRUE
                ) IS TRUE AS ending
            FROM (
                SELECT
                    stood.level AS before,
                    CASE
                        WHEN t.credits <= 0 THEN 'depleted'
                        WHEN t.credits <= low_at OR (t.credits < recovered_at AND stood.level IS NOT NULL) THEN 'low'
                    END AS level
                FROM (
                    -- The old credits by today's thresholds: so a threshold that was moved says nothing of anybody.
                    SELECT
                        CASE
                            WHEN o.credits <= 0 THEN 'depleted'
                            WHEN o.credits <= low_at OR (o.credits < recovered_at AND o.level IS NOT NULL) THEN 'low'
                        END AS level
                    OFFSET 0
                ) AS stood
                OFFSET 0
            ) AS levels
            OFFSET 0
        ) AS happened
    ),
    renewed AS (
        UPDATE creditsd.balances AS b
        SET version = f.version,
            updated_at = instant,
            credits = f.credits,
            membership_status = f.membership_status,
            plan_type = f.plan_type,
            can_buy = f.can_buy,
            has_ever_had_subscription = f.has_ever_had_subscription,
            subscription_id = f.subscription_id,
            membership = f.membership,
            expires_at = f.expires_at,
            cause = f.cause,
            previous = json_build_object(
                'version', b.version,
                'updated_at', replace(to_char(b.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', ''),
                'credits', b.credits,
                'membershipStatus', b.membership_status,
                'planType', b.plan_type,
                'canBuy', b.can_buy,
                'hasEverHadSubscription', b.has_ever_had_subscription,
                'subscription_id', b.subscription_id,
                'membership', b.membership,
                'expires_at', replace(to_char(b.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '')
            ),
            recheck_at = f.recheck_at,
            level = f.level,
            events = f.events,
            ends_told = f.ends_told
        FROM found AS f
        WHERE f.differs
        AND b.user_id = f.user_id
        RETURNING b.*
    ),
    added AS (
        INSERT INTO creditsd.balances AS b (
            user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription,
            subscription_id, membership, expires_at, cause, recheck_at, level, events, ends_told
        )
        SELECT
            f.user_id, f.version, instant, f.credits, f.membership_status, f.plan_type, f.can_buy,
            f.has_ever_had_subscription, f.subscription_id, f.membership, f.expires_at, f.cause, f.recheck_at,
            f.level, f.events, f.ends_told
        FROM found AS f
        WHERE f.old_version IS NULL
        -- Who has no rows and was never told of is no news: somebody who was forgotten must not come back by this.
        AND (f.membership_status <> 'none' OR republish)
        RETURNING b.*
    ),
    -- The same total, but time will change it at another moment than was thought, or the thresholds have moved.
    retimed AS (
        UPDATE creditsd.balances AS b
        SET recheck_at = f.recheck_at,
            level = f.level,
            events = f.events
        FROM found AS f
        WHERE NOT f.differs
        AND (f.old_recheck_at, f.old_level) IS DISTINCT FROM (f.recheck_at, f.level)
        AND b.user_id = f.user_id
    )
    SELECT r.*
    FROM renewed AS r
    UNION ALL
    SELECT a.*
    FROM added AS a
    ORDER BY version;
    IF history_days > 0 THEN
        -- Whatever stands above `newest` is this call's own: everyone else waits for the lock.
        INSERT INTO creditsd.history (
            version, user_id, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription,
            subscription_id, membership, expires_at, cause, previous, events
        )
        SELECT
            b.version, b.user_id, b.updated_at, b.credits, b.membership_status, b.plan_type, b.can_buy,
            b.has_ever_had_subscription, b.subscription_id, b.membership, b.expires_at, b.cause, b.previous, b.events
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
$function$;

COMMENT ON FUNCTION creditsd.recompute IS
'Recomputes users (each named once), expires their empty one-time rows, stores and returns the totals that changed, in order of version, with what happened to the user by that; with history_days above 0 into history, too. Takes its turn by an advisory lock.';
