-- Tell a sink everything again, from the first version on; a publisher that is at work finds its cursor set, and goes back.
-- What it has refused comes again with all else: a step that waits would keep its user's earlier ones from being told.
-- First the deliveries and then the sink, as a publisher settles them: the other way round, each could wait for the other.
WITH refused AS (
    DELETE FROM creditsd.deliveries
    WHERE sink = %(name)s
    RETURNING 1
)
UPDATE creditsd.sinks
SET cursor = 0
WHERE name = %(name)s
AND (SELECT count(*) FROM refused) >= 0
RETURNING name
