-- Let what ends last of somebody's end in a moment, by time alone; returns nothing where the user has nothing that counts.
UPDATE public.user_credits
SET expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = (
    SELECT c.id
    FROM public.user_credits AS c
    WHERE c.user_id = %(user_id)s
    AND c.status = 'active'
    AND (c.expires_at IS NULL OR c.expires_at > now())
    ORDER BY c.plan_type = 'subscription', c.expires_at DESC NULLS FIRST
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING credits
