-- The table that creditsd was installed for, as the settings called it.
SELECT i.source ->> 'table'
FROM creditsd.installation AS i
