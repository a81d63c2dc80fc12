-- Waits for the last final, shows the newest windows, and checks the last day's: ends with an error if anything differs.

-- The paid transactions of the last day, and their windows. (The stream keeps at least a day.)
CREATE TEMPORARY VIEW paid AS
  SELECT window_start, window_end, user_id, amount
  FROM transactions, tumble(made_at, '3 seconds')
  WHERE status = 'paid' AND window_start > now() - interval '1 day';

-- Waits until a condition holds, for a minute at the most.
CREATE PROCEDURE pg_temp.await(otherwise text, condition text) LANGUAGE plpgsql AS $$
DECLARE
  give_up timestamptz := clock_timestamp() + interval '1 minute';
  holds boolean;
BEGIN
  LOOP
    EXECUTE 'SELECT ' || condition INTO holds;
    EXIT WHEN holds;
    IF clock_timestamp() > give_up THEN
      RAISE EXCEPTION '% after a minute', otherwise;
    END IF;
    COMMIT;
    PERFORM pg_sleep(0.1);
  END LOOP;
END
$$;

-- Everything sent is in the stream; then the last windows close by the clock; then they go out.
SELECT weir.wait('transactions') \g /dev/null
CALL pg_temp.await('windows are still open, or records wait to be sent',
  $$NOT EXISTS (SELECT FROM paid WHERE window_start NOT IN (SELECT window_start FROM transactions_aggregate)
                UNION ALL
                SELECT FROM paid WHERE window_start NOT IN (SELECT window_start FROM transactions_by_user)
                UNION ALL
                SELECT FROM weir.stat_sinks WHERE pending > 0)$$);
SELECT weir.wait('records') \g /dev/null

\echo
\echo 'The newest windows in topic transactions_aggregate_weir:'
SELECT _key AS key, sum, count, round(average, 2) AS average FROM records ORDER BY window_start DESC LIMIT 5;

\echo 'By user:'
SELECT user_id, sum(sum) AS sum, sum(count) AS count, round(sum(sum) / sum(count), 2) AS each
FROM transactions_by_user GROUP BY user_id ORDER BY user_id;

-- A replay: the same query over the whole topic again.
CREATE MATERIALIZED VIEW replay WITH (weir.continuous, weir.emit = 'final', weir.start = 'earliest') AS
  SELECT window_start, window_end, sum(amount) AS sum, count(*) AS count, avg(amount) AS average
  FROM transactions, tumble(made_at, '3 seconds')
  WHERE status = 'paid'
  GROUP BY window_start, window_end;
CALL pg_temp.await('the replay is not done',
  $$(SELECT state = 'running' FROM weir.views WHERE view = 'replay'::regclass)
    AND (SELECT max(window_start) FROM replay) IS NOT DISTINCT FROM (SELECT max(window_start) FROM transactions_aggregate)$$);

CREATE TEMPORARY TABLE checked AS
  SELECT 1 AS no, 'every paid transaction is in its window once' AS what,
         NOT EXISTS ((SELECT window_start, window_end, sum(amount), count(*), avg(amount) FROM paid GROUP BY 1, 2)
                     EXCEPT SELECT * FROM transactions_aggregate) AS holds
  UNION ALL
  SELECT 2, 'user k''s sum is 10 k times the count, user 0''s 100 times',
         (SELECT bool_and(sum = count * CASE user_id WHEN 0 THEN 100 ELSE 10 * user_id END) FROM transactions_by_user)
  UNION ALL
  SELECT 3, 'the users'' sums and counts make those of the window',
         NOT EXISTS (SELECT window_start, sum(sum), sum(count) FROM transactions_by_user GROUP BY window_start
                     EXCEPT SELECT window_start, sum, count FROM transactions_aggregate)
  UNION ALL
  SELECT 4, 'the topic has one record per window, and no half-finished one',
         NOT EXISTS (TABLE transactions_aggregate EXCEPT ALL SELECT window_start, window_end, sum, count, average FROM records)
         AND NOT EXISTS (SELECT window_start, window_end, sum, count, average FROM records EXCEPT ALL TABLE transactions_aggregate)
         AND NOT EXISTS (SELECT FROM records WHERE _key::timestamptz <> window_start)
  UNION ALL
  SELECT 5, 'a replay of the topic gives the same numbers',
         NOT EXISTS (TABLE transactions_aggregate EXCEPT ALL TABLE replay)
         AND NOT EXISTS (TABLE replay EXCEPT ALL TABLE transactions_aggregate);
SET client_min_messages = warning;
DROP MATERIALIZED VIEW replay;

\echo 'Checked:'
SELECT what, CASE WHEN holds THEN 'yes' ELSE 'NO' END AS holds FROM checked ORDER BY no;
DO $$
BEGIN
  IF EXISTS (SELECT FROM checked WHERE holds IS NOT TRUE) THEN
    RAISE EXCEPTION 'the numbers are not what they should be';
  END IF;
END
$$;
