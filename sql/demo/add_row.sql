-- Something bought some days ago, which ends (or ended) some days from now; null never ends.
INSERT INTO public.user_credits (
    user_id, credits, status, plan_type, membership, subscription_id, expires_at, created_at
)
VALUES (
    %(user_id)s,
    %(credits)s,
    %(status)s,
    %(plan_type)s,
    %(membership)s,
    %(subscription_id)s,
    now() + make_interval(days => %(ends_in_days)s::integer),
    now() - make_interval(days => %(bought_days_ago)s::integer)
)
