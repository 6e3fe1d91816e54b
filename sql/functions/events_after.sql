-- What has happened to a user and still stands, after this recompute: a function of its own, because few ever need it, and what a
-- statement only might compute costs every start of it.
CREATE FUNCTION creditsd.events_after(
    was creditsd.balances,
    now_membership_status text,
    now_expires_at timestamptz,
    next_version bigint,
    is_news boolean,
    level text,
    crossing text,
    low_at numeric,
    recovered_at numeric,
    expired boolean,
    ending boolean
)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- What stands no longer goes; what happens now joins. credits.updated is named only where there is none.
    RETURN NULLIF(
        CASE WHEN is_news OR NOT ending THEN '{{}}' ELSE jsonb_build_object(
            'credits.updated',
            jsonb_build_object('version', was.version)
        ) END
        || (coalesce(was.events, '{{}}') - ARRAY[
            CASE WHEN is_news THEN 'credits.updated' END,
            CASE WHEN level IS DISTINCT FROM 'depleted' THEN 'credits.depleted' END,
            CASE WHEN level IS NULL THEN 'credits.low' ELSE 'credits.recovered' END,
            CASE WHEN now_membership_status <> 'expired' THEN 'plan.expired' END,
            CASE WHEN now_expires_at IS DISTINCT FROM was.expires_at THEN 'plan.expiring_soon' END
        ])
        || CASE WHEN crossing IS NULL THEN '{{}}' ELSE jsonb_build_object(
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
        || CASE WHEN NOT expired THEN '{{}}' ELSE jsonb_build_object(
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
        || CASE WHEN NOT ending THEN '{{}}' ELSE jsonb_build_object(
            'plan.expiring_soon',
            jsonb_build_object('version', next_version)
        ) END,
        '{{}}'
    );
END
$function$;

COMMENT ON FUNCTION creditsd.events_after IS
'Event type to the version of its happening, and what else is to be told of it; null for nothing.';
