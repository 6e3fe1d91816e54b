-- The rules, once: each asked user's total at an instant, from the rows as they are. Writes nothing.
CREATE TYPE creditsd.total AS (
    user_id {user_id_type},
    credits numeric,
    membership_status text,
    plan_type text,
    can_buy boolean,
    has_ever_had_subscription boolean,
    subscription_id text,
    membership text,
    expires_at timestamptz,
    ends_at timestamptz,
    empties bigint
);

COMMENT ON TYPE creditsd.total IS
'A total as the rows give it. ends_at: when the first counting row ends; empties: active one-time rows without credits.';

CREATE FUNCTION creditsd.totals(users {user_id_type}[], instant timestamptz, can_buy_policy text, expire_empty text)
RETURNS SETOF creditsd.total
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        judged.user_id,
        trim_scale(coalesce(sum(judged.credits) FILTER (WHERE judged.counts), 0)::numeric),
        CASE
            WHEN bool_or(judged.counts) THEN 'active'
            WHEN count(judged.row_of) > 0 THEN 'expired'
            ELSE 'none'
        END,
        CASE
            WHEN bool_or(judged.subscription) FILTER (WHERE judged.leads) THEN 'subscription'
            WHEN bool_or(judged.one_time) FILTER (WHERE judged.leads) THEN 'one_time'
            ELSE 'none'
        END,
        CASE can_buy_policy
            WHEN 'always' THEN true
            WHEN 'no_credits' THEN coalesce(sum(judged.credits) FILTER (WHERE judged.counts), 0) <= 0
            ELSE bool_or(judged.counts AND judged.subscription) IS NOT TRUE
        END,
        bool_or(judged.subscription) IS TRUE,
        max(judged.subscription_id) FILTER (WHERE judged.leads),
        max(judged.membership) FILTER (WHERE judged.leads),
        max(judged.expires_at) FILTER (WHERE judged.leads),
        min(judged.expires_at) FILTER (WHERE judged.counts),
        count(*) FILTER (WHERE judged.empty)
    FROM (
        -- One sort for the whole batch finds every user's leader; an ordered aggregate would sort once a user.
        SELECT
            rated.*,
            rated.counts AND row_number() OVER (
                PARTITION BY rated.user_id
                ORDER BY
                    rated.counts DESC,
                    rated.subscription DESC,
                    rated.expires_at DESC NULLS FIRST,
                    rated.created_at DESC NULLS LAST,
                    rated.subscription_id,
                    rated.membership
            ) = 1 AS leads
        FROM (
            SELECT
                asked.user_id,
                line.user_id AS row_of,
                line.credits,
                line.subscription,
                line.one_time,
                line.subscription_id,
                line.membership,
                line.expires_at,
                line.created_at,
                (
                    line.active
                    AND (line.expires_at IS NULL OR line.expires_at > instant)
                    AND NOT (expire_empty = 'on' AND line.one_time AND coalesce(line.credits, 1) <= 0)
                ) IS TRUE AS counts,
                (line.active AND line.one_time AND line.credits <= 0) IS TRUE AS empty
            FROM unnest(users) AS asked (user_id)
            LEFT JOIN creditsd.source AS line ON line.user_id = asked.user_id
        ) AS rated
    ) AS judged
    GROUP BY judged.user_id;
END
$function$;

COMMENT ON FUNCTION creditsd.totals IS
'The rules: the total of each asked user at an instant. With expire_empty = on an empty one-time row has ceased to count before its status says so.';
