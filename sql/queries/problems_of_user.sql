-- Why a user is set aside, if anything is wrong.
SELECT p.problem, p.reason, p.since
FROM creditsd.problems AS p
WHERE p.user_id = %(user_id)s::text::creditsd.user_id
ORDER BY p.problem
