-- Whether the schema is there at all, readable or not.
SELECT to_regclass('creditsd.installation') IS NOT NULL
