-- MARIADB_USER may do anything in `shop` and nothing else: the binlog and our own database are named here.
GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO cdc;
GRANT ALL PRIVILEGES ON cdc_sidecar.* TO cdc;
