-- The same rows three ways: all at once into stream a, row by row into b, in random batches into d. Each view equals its query.
-- To be included, with the path from the top directory, where the search path begins with a schema that has
--   queries (n int, q text)    %s (or %1$s) in q stands for the stream: view a1 is query 1 over stream a
--   rows (i int, ...)          i counts from 1
--   streams a, b, d            with the columns of rows

CREATE PROCEDURE make_views() LANGUAGE plpgsql AS $$
DECLARE
  s text;
  w record;
BEGIN
  FOREACH s IN ARRAY ARRAY['a', 'b', 'd'] LOOP
    FOR w IN SELECT * FROM queries ORDER BY n LOOP
      EXECUTE format('CREATE MATERIALIZED VIEW %s%s WITH (weir.continuous) AS ', s, w.n) || format(w.q, s);
    END LOOP;
  END LOOP;
END $$;

-- Views that are not what their query gives, or that weir.verify finds fault with.
CREATE FUNCTION differences() RETURNS TABLE (view text, differing bigint) LANGUAGE plpgsql SET client_min_messages = warning AS $$
DECLARE
  w record;
BEGIN
  FOR w IN SELECT v.relname, substr(v.relname, 1, 1) AS s, q.q FROM queries q JOIN pg_class v ON v.relname ~ ('^[abd]' || q.n || '$')
            WHERE v.relnamespace = current_schema::regnamespace ORDER BY q.n, 1 LOOP
    view := w.relname;
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) x',
                   w.relname, format(w.q, w.s)) INTO differing;
    IF differing > 0 THEN RETURN NEXT; END IF;
    EXECUTE format('SELECT count(*) FROM weir.verify(%L)', w.relname) INTO differing;
    IF differing > 0 THEN RETURN NEXT; END IF;
  END LOOP;
END $$;

-- Looks for differences after so many rows of b, too; batches of d have up to so many rows.
CREATE PROCEDURE feed(check_each int, batch int) LANGUAGE plpgsql AS $$
DECLARE
  n int := (SELECT max(i) FROM rows);
  lo int := 1;
  hi int;
BEGIN
  INSERT INTO a SELECT * FROM rows;
  FOR at IN 1 .. n LOOP
    INSERT INTO b SELECT * FROM rows WHERE i = at;
    IF at % check_each = 0 AND EXISTS (SELECT FROM differences()) THEN
      RAISE EXCEPTION 'differs after row %: %', at, (SELECT string_agg(x::text, ' ') FROM differences() x);
    END IF;
  END LOOP;
  WHILE lo <= n LOOP
    hi := lo + (random() * batch)::int;
    INSERT INTO d SELECT * FROM rows WHERE i BETWEEN lo AND hi;
    lo := hi + 1;
  END LOOP;
END $$;
