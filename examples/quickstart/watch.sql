SELECT to_char(window_start, 'HH24:MI:SS') AS second, city, orders, revenue, round(mean, 2) AS mean
FROM sales ORDER BY window_start DESC, revenue DESC LIMIT 10
