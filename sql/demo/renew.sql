-- The next month of a subscription, with its full allowance; returns nothing where the user has none.
UPDATE public.user_credits
SET credits = CASE membership
        WHEN 'Team' THEN 2000
        WHEN 'Pro' THEN 500
        ELSE 100
    END,
    status = 'active',
    expires_at = now() + interval '30 days'
WHERE id = (
    SELECT c.id
    FROM public.user_credits AS c
    WHERE c.user_id = %(user_id)s
    AND c.plan_type = 'subscription'
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING credits
