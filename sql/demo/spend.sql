-- Spend from the row that ends first and has enough; returns nothing where no row has.
UPDATE public.user_credits
SET credits = credits - %(amount)s
WHERE id = (
    SELECT c.id
    FROM public.user_credits AS c
    WHERE c.user_id = %(user_id)s
    AND c.status = 'active'
    AND c.credits >= %(amount)s
    AND (c.expires_at IS NULL OR c.expires_at > now())
    ORDER BY c.expires_at NULLS LAST
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING credits
