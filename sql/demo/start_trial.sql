-- A pass that runs out by time alone, with nobody writing anything.
INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership, expires_at)
VALUES (
    %(user_id)s,
    %(credits)s,
    'active',
    'one_time',
    'Trial',
    clock_timestamp() + make_interval(secs => %(seconds)s)
)
RETURNING extract(epoch FROM expires_at)::double precision
