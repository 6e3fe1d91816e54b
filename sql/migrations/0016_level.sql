-- Where a threshold is set a total says whether its credits are low, and from where on: whoever shows it need not know the number.

ALTER TABLE creditsd.balances
    ADD COLUMN low_credits numeric;

COMMENT ON COLUMN creditsd.balances.low_credits IS
'events.low_credits as this total was published with it; null where no threshold is set, and then the total does not say its level either.';

ALTER TABLE creditsd.history
    ADD COLUMN level text,
    ADD COLUMN low_credits numeric;

ALTER TYPE creditsd.past
    ADD ATTRIBUTE level text,
    ADD ATTRIBUTE low_credits numeric;
