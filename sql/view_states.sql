-- weir.partial, merge, finalize and combine: states of aggregates as values. Everybody
-- may call them, so they check what they are given.
SELECT weir.finalize('stddev(float8)'::regprocedure, weir.partial('stddev(float8)'::regprocedure, g::float8), NULL::float8) FROM generate_series(1, 3) g;
SELECT weir.finalize('sum(numeric)'::regprocedure, weir.merge('sum(numeric)'::regprocedure,
  (SELECT weir.partial('sum(numeric)'::regprocedure, g::numeric) FROM generate_series(1, 3) g),
  (SELECT weir.partial('sum(numeric)'::regprocedure, g::numeric) FROM generate_series(4, 5) g)), NULL::numeric);
-- no rows, and a state on one side only
SELECT weir.partial('sum(numeric)'::regprocedure, 1::numeric) FILTER (WHERE false) IS NULL AS none,
       weir.merge('sum(numeric)'::regprocedure, NULL, NULL) IS NULL AS both,
       weir.finalize('sum(numeric)'::regprocedure, NULL, NULL::numeric) IS NULL AS result;
SELECT weir.finalize('max(text)'::regprocedure, weir.merge('max(text)'::regprocedure,
         weir.partial('max(text)'::regprocedure, 'a'::text), weir.partial('max(text)'::regprocedure, 'b'::text)), NULL::text);
SELECT weir.combine('max(int)'::regprocedure, 1, 2), weir.combine('max(int)'::regprocedure, NULL, 2),
       weir.combine('range_intersect_agg(anyrange)'::regprocedure, '[1,5)'::int4range, '[2,9)'::int4range);
-- arguments, results and aggregates of another kind
SELECT weir.partial('sum(numeric)'::regprocedure, 42);
SELECT weir.partial('corr(float8,float8)'::regprocedure, 42::float8);
SELECT weir.partial('percentile_cont(float8,float8)'::regprocedure, 1::float8, 2::float8);
SELECT weir.partial(NULL, 1);
SELECT weir.partial('sum(int4)'::regprocedure, g) OVER () FROM generate_series(1, 3) g;
SELECT weir.merge('lower(text)'::regprocedure, '\x00', '\x01');
SELECT weir.merge(NULL, '\x', '\x');
SELECT weir.finalize('sum(numeric)'::regprocedure, NULL, NULL::text);
SELECT weir.combine('sum(numeric)'::regprocedure, 1, 2);
SELECT weir.combine('max(anyarray)'::regprocedure, 1, 2);
SELECT weir.combine('range_intersect_agg(anyrange)'::regprocedure, 1, 2);
-- bytes that are no state
SELECT weir.finalize('stddev(float8)'::regprocedure, '\x00', NULL::float8);
SELECT weir.finalize('sum(numeric)'::regprocedure, '\x00', NULL::numeric);
SELECT weir.merge('stddev(float8)'::regprocedure, '\x00', '\x01');
SELECT weir.refuse_change();
