-- Whether later steps wait behind a sink's refused deliveries, or take their place.
UPDATE creditsd.deliveries
SET in_order = %(in_order)s
WHERE sink = %(name)s
AND in_order <> %(in_order)s
