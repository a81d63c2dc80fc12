-- What a user types. :bootstrap is where Kafka listens (psql -v bootstrap=localhost:9092).

CREATE EXTENSION weir;

CREATE SERVER kafka FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers :'bootstrap');

-- Transactions of ten users, paid and unpaid. A row may overtake another partition's by up to a
-- second; when nothing came for three seconds, windows close by the clock.
CREATE UNLOGGED TABLE transactions (transaction_id bigint, user_id int, amount numeric, status text, made_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = 'transactions', weir.event_time = 'made_at',
        weir.lateness = '1 s', weir.idle_timeout = '3 s', weir.keep = '1 day');

-- The income of every three seconds. emit = 'final': a window's row is inserted once, when it is over.
CREATE MATERIALIZED VIEW transactions_aggregate WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, sum(amount) AS sum, count(*) AS count, avg(amount) AS average
  FROM transactions, tumble(made_at, '3 seconds')
  WHERE status = 'paid'
  GROUP BY window_start, window_end;

-- The same for each user.
CREATE MATERIALIZED VIEW transactions_by_user WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, user_id, sum(amount) AS sum, count(*) AS count
  FROM transactions, tumble(made_at, '3 seconds')
  WHERE status = 'paid'
  GROUP BY window_start, user_id;

-- Out to Kafka: one record per window, keyed by its start.
CREATE TRIGGER out AFTER INSERT ON transactions_aggregate
  FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', 'transactions_aggregate_weir', 'key=window_start');

-- And in again: what other readers of the output topic get. For the check only.
CREATE UNLOGGED TABLE records (_key text, window_start timestamptz, window_end timestamptz, sum numeric, count bigint, average numeric)
  WITH (weir.server = 'kafka', weir.topic = 'transactions_aggregate_weir', weir.event_time = 'window_start', weir.keep = '2 days');
