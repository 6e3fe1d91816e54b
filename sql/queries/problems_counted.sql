-- How many users are set aside for each reason (counted up to a limit), and one of them.
SELECT p.problem, count(*), min(p.user_id::text)
FROM (SELECT e.problem, e.user_id FROM creditsd.problems AS e LIMIT %(limit)s) AS p
GROUP BY p.problem
ORDER BY p.problem
