-- The view is made anew, over a function: one over the table itself would forbid the application to alter the columns it reads.

DROP VIEW IF EXISTS creditsd.source;
