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
'A total as the rows give it. ends_at: when the first counting row ends; empties: active one-time rows with zero credits.';

CREATE FUNCTION creditsd.totals(users {user_id_type}[], instant timestamptz, can_buy_policy text, expire_empty text)
RETURNS SETOF creditsd.total
LANGUAGE plpgsql
STABLE
ROWS 10
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $function$
BEGIN
    RETURN QUERY
    SELECT
        summed.user_id,
        trim_scale(coalesce(summed.credits, 0)::numeric),
        (summed.first).membership_status,
        (summed.first).plan_type,
        CASE can_buy_policy
            WHEN 'always' THEN true
            WHEN 'no_credits' THEN coalesce(summed.credits, 0) <= 0
            ELSE (summed.first).can_buy
        END,
        summed.has_ever_had_subscription,
        (summed.first).subscription_id,
        (summed.first).membership,
        (summed.first).expires_at,
        summed.ends_at,
        summed.empties
    FROM (
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
                    ROW(
                        rated.user_id, 0, CASE WHEN rated.row_of IS NULL THEN 'none' ELSE 'expired' END,
                        'none', true, false, NULL, NULL, NULL, NULL, 0
                    )::creditsd.total
                END
            ))[1] AS first,
            sum(rated.credits) FILTER (WHERE rated.counts) AS credits,
            bool_or(rated.subscription) IS TRUE AS has_ever_had_subscription,
            min(rated.expires_at) FILTER (WHERE rated.counts) AS ends_at,
            count(*) FILTER (WHERE rated.empty) AS empties
        FROM (
            -- One sort for the whole batch finds every user's primary row; an ordered aggregate would sort once a user.
            SELECT
                asked.user_id,
                line.user_id AS row_of,
                line.credits,
                line.subscription,
                line.one_time,
                line.subscription_id,
                line.membership,
                line.expires_at,
                judged.counts,
                (line.active AND line.empty) IS TRUE AS empty
            FROM unnest(users) AS asked (user_id)
            LEFT JOIN (
{source}
            ) AS line ON line.user_id = asked.user_id
            CROSS JOIN LATERAL (
                SELECT creditsd.counts(line.active, line.empty, line.expires_at, instant, expire_empty) AS counts
            ) AS judged
            ORDER BY
                asked.user_id,
                judged.counts DESC,
                line.subscription DESC,
                line.expires_at DESC NULLS FIRST,
                line.created_at DESC NULLS LAST,
                line.subscription_id,
                line.membership
        ) AS rated
        GROUP BY rated.user_id
    ) AS summed;
END
$function$;

COMMENT ON FUNCTION creditsd.totals IS
'The rules: the total of each asked user at an instant, of the rows that count (see creditsd.counts).';
