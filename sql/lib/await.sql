-- Waits for what a background process does. To be called outside of a transaction block.
-- To be included, with the path from the top directory, where the search path begins with the schema for the procedures.

-- Waits until a condition holds, for a minute at the most.
CREATE PROCEDURE await(condition text) LANGUAGE plpgsql AS $$
DECLARE
  give_up timestamptz := clock_timestamp() + interval '1 minute';
  holds boolean;
BEGIN
  LOOP
    EXECUTE 'SELECT ' || condition INTO holds;
    EXIT WHEN holds;
    IF clock_timestamp() > give_up THEN RAISE 'after a minute it does not hold: %', condition; END IF;
    COMMIT;
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;

-- Waits until there are none of these rows (a table, and a condition if need be) any more.
CREATE PROCEDURE gone(rows text) LANGUAGE plpgsql AS $$
BEGIN
  CALL await(format('NOT EXISTS (SELECT FROM %s)', rows));
END $$;
