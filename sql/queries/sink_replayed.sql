-- Tell a sink everything again, from the first version on; a publisher that is at work finds its cursor set, and goes back.
UPDATE creditsd.sinks
SET cursor = 0
WHERE name = %(name)s
RETURNING name
