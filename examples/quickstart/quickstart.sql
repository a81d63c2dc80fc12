-- What a user types. :bootstrap is where Kafka listens (psql -v bootstrap=localhost:9092).

CREATE EXTENSION weir;

CREATE SERVER kafka FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers :'bootstrap');

-- A stream: the last hour of the topic "orders", readable like any table.
CREATE UNLOGGED TABLE orders (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = 'orders', weir.format = 'json',
        weir.event_time = 'ordered_at', weir.lateness = '5 s', weir.keep = '1 hour');

-- A continuous view: totals per second and city, kept up to date as orders arrive.
CREATE MATERIALIZED VIEW sales WITH (weir.continuous, weir.emit = 'changes', weir.keep = '7 days') AS
  SELECT window_start, city, count(*) AS orders, sum(amount) AS revenue, avg(amount) AS mean
  FROM orders, tumble(ordered_at, '1 second')
  GROUP BY window_start, city;
