-- Films for rent as a MariaDB has them.

-- group tables
CREATE TABLE language (language_id tinyint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, name char(20) NOT NULL) DEFAULT CHARSET=utf8mb4;
CREATE TABLE film (
	film_id smallint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
	title varchar(255) NOT NULL,
	description text,
	release_year year,
	language_id tinyint unsigned NOT NULL,
	rental_rate decimal(4,2) NOT NULL DEFAULT 4.99,
	length smallint unsigned,
	rated enum('G','PG','R') DEFAULT 'G',
	features set('Trailers','Commentaries','Deleted Scenes'),
	last_update timestamp NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp,
	KEY title (title),
	CONSTRAINT film_language FOREIGN KEY (language_id) REFERENCES language (language_id) ON UPDATE CASCADE
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE actor (actor_id smallint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, first_name varchar(45) NOT NULL, last_name varchar(45) NOT NULL, KEY last_name (last_name)) DEFAULT CHARSET=utf8mb4;
CREATE TABLE film_actor (actor_id smallint unsigned NOT NULL, film_id smallint unsigned NOT NULL, PRIMARY KEY (actor_id, film_id), KEY film (film_id), CONSTRAINT fa_actor FOREIGN KEY (actor_id) REFERENCES actor (actor_id), CONSTRAINT fa_film FOREIGN KEY (film_id) REFERENCES film (film_id));
-- notice words: a full-text index
CREATE TABLE film_text (film_id smallint unsigned NOT NULL PRIMARY KEY, title varchar(255) NOT NULL, FULLTEXT KEY words (title)) DEFAULT CHARSET=utf8mb4;
CREATE TABLE rental (rental_id int NOT NULL AUTO_INCREMENT PRIMARY KEY, rented datetime NOT NULL, film_id smallint unsigned NOT NULL, returned datetime, UNIQUE KEY once (rented, film_id), CONSTRAINT of_film FOREIGN KEY (film_id) REFERENCES film (film_id) ON UPDATE CASCADE);
CREATE TABLE payment (payment_id bigint NOT NULL, rental_id int NOT NULL, amount decimal(5,2) NOT NULL, paid datetime NOT NULL, PRIMARY KEY (payment_id, paid)) PARTITION BY RANGE COLUMNS (paid) (PARTITION p01 VALUES LESS THAN ('2026-02-01'), PARTITION p02 VALUES LESS THAN ('2026-03-01'));
CREATE TRIGGER film_words AFTER INSERT ON film FOR EACH ROW INSERT INTO film_text VALUES (NEW.film_id, NEW.title);
CREATE VIEW film_list AS SELECT f.title, group_concat(a.last_name) FROM film f LEFT JOIN film_actor USING (film_id) LEFT JOIN actor a USING (actor_id) GROUP BY f.title;

-- group rows
INSERT INTO language (name) VALUES ('English'), ('Deutsch'), ('日本語');
INSERT INTO film (title, description, release_year, language_id, length, rated, features, last_update) SELECT concat('FILM ', seq), repeat('x', seq), 1990 + seq % 30, 1 + seq % 3, seq, 1 + seq % 3, 'Trailers,Deleted Scenes', '2026-01-01 00:00:00' + INTERVAL seq SECOND FROM seq_1_to_60;
INSERT INTO actor (first_name, last_name) SELECT concat('First ', seq), concat('Last ', seq % 7) FROM seq_1_to_30;
INSERT INTO film_actor SELECT a.seq, f.seq FROM seq_1_to_30 a, seq_1_to_60 f WHERE (a.seq + f.seq) % 9 = 0;
INSERT INTO rental (rented, film_id) SELECT '2026-01-20 12:00:00' + INTERVAL seq HOUR, 1 + seq % 60 FROM seq_1_to_100;
INSERT INTO payment SELECT seq, seq, 2.99, '2026-01-20 12:00:00' + INTERVAL seq * 4 HOUR FROM seq_1_to_100;

-- group changes
ALTER TABLE payment ADD PARTITION (PARTITION p03 VALUES LESS THAN ('2026-04-01'));
INSERT INTO payment SELECT 1000 + seq, seq, 0.99, '2026-03-05 12:00:00' FROM seq_1_to_10;
ALTER TABLE film MODIFY rated enum('G','PG','R','NC-17') DEFAULT 'G';
ALTER TABLE film ADD COLUMN cost decimal(6,2) NOT NULL DEFAULT 19.99 AFTER length;
ALTER TABLE film MODIFY length int unsigned;
ALTER TABLE rental CHANGE returned returned_at datetime;
UPDATE rental SET returned_at = rented + INTERVAL 3 DAY WHERE rental_id % 2 = 0;
UPDATE film SET rated = 'NC-17', title = concat(title, ' II'), last_update = '2026-02-02 02:02:02' WHERE film_id % 20 = 0;
ALTER TABLE payment ADD COLUMN method varchar(10) NOT NULL DEFAULT 'cash';
UPDATE payment SET method = 'card' WHERE payment_id % 5 = 0;
ALTER TABLE film_actor ADD COLUMN part varchar(40);
