-- What the stored totals are made by, as whoever led last has noted it; nothing before the first start.
SELECT r.policy
FROM creditsd.reader AS r
