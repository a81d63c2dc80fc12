-- weir.notify: its arguments. What listeners hear is in test/t/022_notify.pl.
SET client_min_messages = warning;

CREATE TABLE item (id int PRIMARY KEY, name text, price numeric, at timestamptz, room text);

-- arguments are checked when the trigger is made
CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify();
CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch', 'colums=id');
CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch', 'columns=nothing');
CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch', 'format=json');
CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch', 'key=id', 'key=name');
CREATE TRIGGER n BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch');
CREATE TRIGGER n AFTER TRUNCATE ON item EXECUTE FUNCTION weir.notify('ch');
CREATE TRIGGER n AFTER INSERT ON item FOR EACH STATEMENT EXECUTE FUNCTION weir.notify('ch');
CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch', 'channel_column=id');
CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx');
SELECT count(*) FROM pg_trigger WHERE tgname = 'n';

-- called by hand
SELECT weir.notify();

CREATE TRIGGER n AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW
  EXECUTE FUNCTION weir.notify('ch', 'columns=name,price', 'channel_column=room');
INSERT INTO item VALUES (1, 'a', 1.50, '2024-01-01 00:00Z', NULL);
BEGIN;
UPDATE item SET price = 2;
SAVEPOINT s;
DELETE FROM item;
ROLLBACK TO s;
COMMIT;

-- a channel that cannot be one
INSERT INTO item VALUES (2, 'b', 1, NULL, repeat('x', 64));

DROP TABLE item;
