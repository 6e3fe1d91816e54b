-- The next users after one (null: the first), in order: whoever has rows, and whoever had.
SELECT u::text
FROM unnest(creditsd.users_after(%(user_id)s::text::creditsd.user_id, %(limit)s)) WITH ORDINALITY AS page (u, place)
ORDER BY page.place
