-- Schema changes as people write them for a MariaDB; see postgres.sql for the form of this file. What stands behind "-- mariadb only"
-- is left out where the server is a MySQL, which does not know it.

-- live: wares crates `odd names` numbered

-- group tables
CREATE TABLE wares (id bigint PRIMARY KEY, note text, qty int NOT NULL DEFAULT 0, price decimal(10,2), state varchar(10) NOT NULL DEFAULT 'new') ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE crates (id bigint PRIMARY KEY, note text, weight smallint, feel enum('sad','ok') NOT NULL DEFAULT 'ok', code varchar(20), ref bigint);
CREATE TABLE `odd names` (id bigint PRIMARY KEY, `Größe` int, `select` text, note text);
CREATE TABLE numbered (id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, note text);
CREATE TABLE wares_like LIKE wares;
CREATE TABLE copies (PRIMARY KEY (id)) AS WITH RECURSIVE s (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM s WHERE seq < 20) SELECT seq AS id, cast('copied' AS char(40)) AS note FROM s;
CREATE TABLE IF NOT EXISTS wares (id bigint PRIMARY KEY);
CREATE TEMPORARY TABLE passing (id int PRIMARY KEY);
-- here alone wordlist: a table without a key is not sent
CREATE TABLE wordlist (word text);

-- group columns
ALTER TABLE wares ADD COLUMN colour varchar(30);
ALTER TABLE wares ADD COLUMN stock int NOT NULL DEFAULT 5 AFTER qty;
ALTER TABLE wares CHANGE COLUMN colour tint varchar(30);
ALTER TABLE wares DROP COLUMN price;
ALTER TABLE wares ADD COLUMN price decimal(12,3), ADD COLUMN data json, ADD COLUMN made date FIRST;
UPDATE wares SET price = 1.5, data = '{"n": 1.50}', made = '2026-01-02' WHERE id % 2 = 0;
ALTER TABLE wares ALTER COLUMN tint SET DEFAULT 'none';
ALTER TABLE wares ALTER COLUMN tint DROP DEFAULT;
ALTER TABLE wares MODIFY stock int NULL DEFAULT 5;
ALTER TABLE wares MODIFY stock int NOT NULL DEFAULT 5;
ALTER TABLE `odd names` RENAME COLUMN `Größe` TO `Höhe "neu"`;
ALTER TABLE `odd names` ADD COLUMN `order` date DEFAULT '2026-01-02';
-- mariadb only
ALTER TABLE wares DROP COLUMN IF EXISTS nothing;
-- mariadb only
ALTER TABLE wares ADD COLUMN IF NOT EXISTS stock int;
ALTER TABLE wares RENAME COLUMN tint TO colour;
ALTER TABLE wares ADD flags set('a','b') NOT NULL DEFAULT '', ADD bits bit(5), DROP COLUMN made;

-- group types
ALTER TABLE wares MODIFY qty bigint NOT NULL DEFAULT 1;
ALTER TABLE crates MODIFY weight int;
ALTER TABLE wares MODIFY state varchar(40) NOT NULL DEFAULT 'new';
ALTER TABLE wares MODIFY price decimal(20,5);
ALTER TABLE wares MODIFY price decimal(14,2);
ALTER TABLE wares MODIFY state varchar(20) NOT NULL DEFAULT 'new';
ALTER TABLE crates MODIFY weight decimal(8,2);
ALTER TABLE crates MODIFY feel enum('sad','ok','happy') NOT NULL DEFAULT 'ok';
INSERT INTO crates (id, note, weight, feel) VALUES (1, 'one', 1.25, 'happy');
ALTER TABLE crates MODIFY feel enum('sad','ok','happy','glum') NOT NULL DEFAULT 'happy';
ALTER TABLE crates ADD COLUMN size int unsigned NOT NULL DEFAULT 0;
ALTER TABLE crates MODIFY size bigint unsigned NOT NULL DEFAULT 7;
ALTER TABLE wares MODIFY colour mediumtext;

-- group indexes
CREATE INDEX state ON wares (state);
CREATE UNIQUE INDEX code ON crates (code);
ALTER TABLE wares ADD INDEX beginning (note(10));
-- notice words: a full-text index
CREATE FULLTEXT INDEX words ON wares (note);
ALTER TABLE wares ADD KEY qty_id (qty, id), ADD KEY qty_state (qty, state);
ALTER TABLE wares RENAME INDEX state TO by_state;
ALTER TABLE wares DROP INDEX qty_state;
ALTER TABLE crates ADD CONSTRAINT ref UNIQUE (ref);
ALTER TABLE crates DROP INDEX ref;
DROP INDEX qty_id ON wares;
ANALYZE TABLE wares;

-- group constraints
ALTER TABLE crates ADD COLUMN ware_id bigint;
ALTER TABLE crates ADD CONSTRAINT crates_wares FOREIGN KEY (ware_id) REFERENCES wares (id) ON DELETE SET NULL ON UPDATE CASCADE;
CREATE TABLE positions (copy_id bigint NOT NULL, line int NOT NULL, note text, PRIMARY KEY (copy_id, line));
INSERT INTO positions WITH RECURSIVE s (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM s WHERE seq < 20) SELECT seq, 1, 'position' FROM s;
ALTER TABLE wares ADD CONSTRAINT qty_ok CHECK (qty >= 0);
ALTER TABLE wares ADD CHECK (state <> '');
ALTER TABLE wares DROP CONSTRAINT qty_ok;
ALTER TABLE crates DROP FOREIGN KEY crates_wares;
ALTER TABLE copies ADD COLUMN part int NOT NULL DEFAULT 0;
ALTER TABLE copies DROP PRIMARY KEY, ADD PRIMARY KEY (id, part);
INSERT INTO copies (id, note, part) VALUES (1, 'another', 1);

-- group numbers
ALTER TABLE wares ADD COLUMN twice bigint AS (qty * 2) STORED;
UPDATE wares SET qty = 21 WHERE id % 3 = 0;
ALTER TABLE wares ADD COLUMN thrice bigint AS (qty * 3) VIRTUAL;
ALTER TABLE wares DROP COLUMN thrice;
ALTER TABLE numbered MODIFY id bigint NOT NULL;
ALTER TABLE numbered MODIFY id bigint NOT NULL AUTO_INCREMENT;
ALTER TABLE wares COMMENT = 'what we sell, it''s all';
ALTER TABLE wares MODIFY qty bigint NOT NULL DEFAULT 1 COMMENT 'pieces';
ALTER TABLE wares ENGINE=InnoDB;

-- group partitions
CREATE TABLE happenings (id bigint NOT NULL, day date NOT NULL, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE COLUMNS (day) (PARTITION p0 VALUES LESS THAN ('2026-01-01'), PARTITION p1 VALUES LESS THAN (MAXVALUE));
INSERT INTO happenings WITH RECURSIVE s (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM s WHERE seq < 20) SELECT seq, date '2026-01-01' + INTERVAL seq DAY, 'day' FROM s;
ALTER TABLE happenings REORGANIZE PARTITION p1 INTO (PARTITION p1 VALUES LESS THAN ('2027-01-01'), PARTITION p2 VALUES LESS THAN (MAXVALUE));
ALTER TABLE happenings ADD COLUMN place varchar(40);
UPDATE happenings SET place = 'here' WHERE id < 5;

-- group ends
CREATE TABLE rubbish (id bigint PRIMARY KEY, note text);
INSERT INTO rubbish WITH RECURSIVE s (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM s WHERE seq < 50) SELECT seq, 'x' FROM s;
TRUNCATE TABLE rubbish;
INSERT INTO rubbish VALUES (51, 'again');
DROP TABLE wares_like;
RENAME TABLE copies TO duplicates;
RENAME TABLE duplicates TO third, positions TO duplicates, third TO positions;
ALTER TABLE rubbish RENAME TO `rubbish heap`;
CREATE VIEW cheaper AS SELECT id FROM wares WHERE qty < 3;
DROP VIEW cheaper;
-- mariadb only
CREATE OR REPLACE TABLE rubbish (id bigint PRIMARY KEY, label varchar(20) NOT NULL DEFAULT 'x');
ALTER TABLE `rubbish heap` CHANGE note `a note` text;
