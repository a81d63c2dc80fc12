--
-- CREATE SERVER and CREATE USER MAPPING of weir_kafka: options by allow-list.
-- No broker is asked here.
--
\set VERBOSITY default
CREATE SERVER kafka FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers 'localhost:9092');
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'kafka';

-- librdkafka's own names, or with underscores
CREATE SERVER secured FOREIGN DATA WRAPPER weir_kafka
  OPTIONS ("bootstrap.servers" 'k1:9093,k2:9093', "security.protocol" 'sasl_ssl', sasl_mechanism 'SCRAM-SHA-512',
           "ssl.ca.pem" 'a certificate', client_id 'orders', "socket.timeout.ms" '10000', fetch_wait_max_ms '50');
CREATE USER MAPPING FOR CURRENT_USER SERVER secured OPTIONS (sasl_username 'weir', "sasl.password" 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER kafka
  OPTIONS (ssl_key_pem 'key', ssl_key_password 'secret', "ssl.certificate.pem" 'certificate');

-- what is required
CREATE SERVER bad FOREIGN DATA WRAPPER weir_kafka;
CREATE SERVER bad FOREIGN DATA WRAPPER weir_kafka OPTIONS (client_id 'orders');
CREATE SERVER bad FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '');
ALTER SERVER kafka OPTIONS (DROP bootstrap_servers);

-- an option twice, in two spellings
CREATE SERVER bad FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers 'a:1', "bootstrap.servers" 'b:1');
ALTER SERVER secured OPTIONS (ADD "sasl.mechanisms" 'PLAIN');

-- unknown options: the nearest name
ALTER SERVER kafka OPTIONS (ADD bootstrap_server 'localhost:9092');
ALTER SERVER kafka OPTIONS (ADD "Security.Protocol" 'ssl');
ALTER SERVER kafka OPTIONS (ADD socket_time_out_ms '1000');
ALTER SERVER kafka OPTIONS (ADD host 'localhost');
ALTER SERVER kafka OPTIONS (ADD "" 'localhost');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD sasl_user 'weir');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD password 'secret');

-- the right option in the wrong place
ALTER SERVER kafka OPTIONS (ADD sasl_username 'weir');
ALTER SERVER kafka OPTIONS (ADD "sasl.password" 'secret');
ALTER SERVER kafka OPTIONS (ADD ssl_key_pem 'key');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD security_protocol 'ssl');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD bootstrap_servers 'elsewhere:9092');

-- what reaches out of the database is refused, for superusers too
ALTER SERVER kafka OPTIONS (ADD "plugin.library.paths" '/tmp/x.so');
ALTER SERVER kafka OPTIONS (ADD ssl_engine_location '/tmp/x.so');
ALTER SERVER kafka OPTIONS (ADD ssl_providers 'x');
ALTER SERVER kafka OPTIONS (ADD "sasl.kerberos.kinit.cmd" 'touch /tmp/x');
ALTER SERVER kafka OPTIONS (ADD sasl_kerberos_keytab '/etc/krb5.keytab');
ALTER SERVER kafka OPTIONS (ADD sasl_kerberos_principal '"; touch /tmp/x; "');
ALTER SERVER kafka OPTIONS (ADD ssl_ca_location '/etc/passwd');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD ssl_key_location '/etc/ssl/private/key.pem');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD ssl_certificate_location '/etc/ssl/cert.pem');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD ssl_keystore_location '/etc/ssl/keystore');
ALTER SERVER kafka OPTIONS (ADD sasl_oauthbearer_token_endpoint_url 'http://169.254.169.254/');
ALTER USER MAPPING FOR PUBLIC SERVER kafka OPTIONS (ADD sasl_oauthbearer_config 'principal=admin');
ALTER SERVER kafka OPTIONS (ADD debug 'all');

-- what weir sets itself
ALTER SERVER kafka OPTIONS (ADD group_id 'orders');
ALTER SERVER kafka OPTIONS (ADD "enable.auto.commit" 'true');
ALTER SERVER kafka OPTIONS (ADD auto_offset_reset 'earliest');
ALTER SERVER kafka OPTIONS (ADD isolation_level 'read_uncommitted');
ALTER SERVER kafka OPTIONS (ADD queued_min_messages '1000000');
ALTER SERVER kafka OPTIONS (ADD metadata_broker_list 'localhost:9092');

-- values are judged by librdkafka, whose version is not part of this test
\set VERBOSITY terse
ALTER SERVER kafka OPTIONS (ADD security_protocol 'plain');
ALTER SERVER kafka OPTIONS (ADD socket_timeout_ms '5 s');
ALTER SERVER kafka OPTIONS (ADD socket_timeout_ms '1');
ALTER SERVER kafka OPTIONS (ADD check_crcs 'perhaps');
\set VERBOSITY default

-- SASL without a mechanism would be GSSAPI, which runs kinit
ALTER SERVER kafka OPTIONS (ADD security_protocol 'SASL_PLAINTEXT');
ALTER SERVER kafka OPTIONS (ADD security_protocol 'sasl_ssl', ADD sasl_mechanism 'GSSAPI');
ALTER SERVER kafka OPTIONS (ADD security_protocol 'sasl_ssl', ADD sasl_mechanism 'OAUTHBEARER');
ALTER SERVER kafka OPTIONS (ADD security_protocol 'sasl_ssl', ADD sasl_mechanism 'PLAIN');

-- wrapper and foreign tables
ALTER FOREIGN DATA WRAPPER weir_kafka OPTIONS (ADD bootstrap_servers 'localhost:9092');
CREATE FOREIGN TABLE orders (id bigint) SERVER kafka;

-- nothing of the refused ones was kept
SELECT srvname, srvoptions FROM pg_foreign_server ORDER BY srvname COLLATE "C";

-- secrets are seen by the mapping's owner only, as PostgreSQL has it
CREATE ROLE regress_weir_reader;
SET ROLE regress_weir_reader;
SELECT srvname, umoptions FROM pg_user_mappings ORDER BY srvname COLLATE "C";
RESET ROLE;
DROP ROLE regress_weir_reader;

SET client_min_messages = warning;
DROP SERVER kafka CASCADE;
DROP SERVER secured CASCADE;
