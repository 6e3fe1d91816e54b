-- Users to totals: sum, expire, store, return those that changed. One at a time, so versions grow in the order of commits.
CREATE FUNCTION creditsd.recompute(
    users {user_id_type}[],
    reason text,
    can_buy_policy text,
    expire_empty text,
    republish boolean
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
BEGIN
    -- The lock comes before the statement that reads the truth: of two recomputes the later one reads later.
    PERFORM pg_advisory_xact_lock('creditsd.balances'::regclass::oid::int4, 1);
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
            undone := ARRAY(
                SELECT t.user_id
                FROM creditsd.totals(emptied, instant, can_buy_policy, expire_empty) AS t
                WHERE t.empties > 0
            );
        END IF;
    END IF;
    RETURN QUERY
    WITH found AS (
        SELECT
            t.*,
            o.version AS old_version,
            o.updated_at AS old_updated_at,
            o.cause AS old_cause,
            o.previous AS old_previous,
            o.recheck_at AS old_recheck_at,
            o.has_ever_had_subscription AS old_ever,
            CASE WHEN t.user_id = ANY (undone) THEN instant + retry_after ELSE t.ends_at END AS new_recheck_at,
            republish OR (
                o.credits, o.membership_status, o.plan_type, o.can_buy, o.has_ever_had_subscription,
                o.subscription_id, o.membership, o.expires_at
            ) IS DISTINCT FROM (
                t.credits, t.membership_status, t.plan_type, t.can_buy,
                t.has_ever_had_subscription OR o.has_ever_had_subscription IS TRUE,
                t.subscription_id, t.membership, t.expires_at
            ) AS publish,
            CASE WHEN o.version IS NOT NULL THEN jsonb_build_object(
                'version', o.version,
                'updated_at', to_char(o.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'credits', o.credits,
                'membershipStatus', o.membership_status,
                'planType', o.plan_type,
                'canBuy', o.can_buy,
                'hasEverHadSubscription', o.has_ever_had_subscription,
                'subscription_id', o.subscription_id,
                'membership', o.membership,
                'expires_at', to_char(o.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            ) END AS before
        FROM unnest(computed) AS t
        LEFT JOIN creditsd.balances AS o ON o.user_id = t.user_id
    ),
    stored AS (
        INSERT INTO creditsd.balances AS b
        SELECT
            f.user_id,
            CASE WHEN f.publish THEN newest + row_number() OVER () ELSE f.old_version END,
            CASE WHEN f.publish THEN instant ELSE f.old_updated_at END,
            f.credits,
            f.membership_status,
            f.plan_type,
            f.can_buy,
            f.has_ever_had_subscription OR f.old_ever IS TRUE,
            f.subscription_id,
            f.membership,
            f.expires_at,
            CASE
                WHEN NOT f.publish THEN f.old_cause
                WHEN f.empties > 0 AND expire_empty = 'on' THEN 'auto-expire'
                ELSE reason
            END,
            CASE WHEN f.publish THEN f.before ELSE f.old_previous END,
            f.new_recheck_at
        FROM found AS f
        WHERE f.publish
        OR f.old_recheck_at IS DISTINCT FROM f.new_recheck_at
        ON CONFLICT (user_id) DO UPDATE
        SET (
            version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription,
            subscription_id, membership, expires_at, cause, previous, recheck_at
        ) = (
            excluded.version, excluded.updated_at, excluded.credits, excluded.membership_status,
            excluded.plan_type, excluded.can_buy, excluded.has_ever_had_subscription, excluded.subscription_id,
            excluded.membership, excluded.expires_at, excluded.cause, excluded.previous, excluded.recheck_at
        )
        RETURNING b.*
    )
    SELECT s.*
    FROM stored AS s
    WHERE s.version > newest
    ORDER BY s.version;
END
$function$;

COMMENT ON FUNCTION creditsd.recompute IS
'Recomputes users (each named once), expires their empty one-time rows, stores and returns the totals that changed, in order of version. Takes its turn by an advisory lock.';
