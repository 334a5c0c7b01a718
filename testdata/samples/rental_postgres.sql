-- Films for rent: a chain of foreign keys from languages to payments, arrays, words to search, and payments by month.

-- group tables
CREATE TYPE rating AS ENUM ('G', 'PG', 'R');
CREATE TABLE language (language_id smallserial PRIMARY KEY, name char(20) NOT NULL);
CREATE TABLE film (
	film_id serial PRIMARY KEY,
	title varchar(255) NOT NULL,
	description text,
	release_year smallint CHECK (release_year BETWEEN 1901 AND 2155),
	language_id smallint NOT NULL REFERENCES language ON UPDATE CASCADE ON DELETE RESTRICT,
	original_language_id smallint REFERENCES language,
	rental_rate numeric(4,2) NOT NULL DEFAULT 4.99,
	length smallint,
	rated rating DEFAULT 'G',
	features text[],
	words tsvector,
	last_update timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX film_title ON film (title);
-- notice film_words: a GiST index over words
CREATE INDEX film_words ON film USING gist (words);
CREATE TABLE actor (actor_id serial PRIMARY KEY, first_name varchar(45) NOT NULL, last_name varchar(45) NOT NULL);
CREATE INDEX actor_last_name ON actor (last_name);
CREATE TABLE film_actor (actor_id integer NOT NULL REFERENCES actor, film_id integer NOT NULL REFERENCES film, PRIMARY KEY (actor_id, film_id));
CREATE TABLE store (store_id serial PRIMARY KEY, city varchar(50) NOT NULL);
CREATE TABLE inventory (inventory_id serial PRIMARY KEY, film_id integer NOT NULL REFERENCES film, store_id integer NOT NULL REFERENCES store);
CREATE TABLE rental (
	rental_id bigserial PRIMARY KEY,
	rented timestamptz NOT NULL,
	inventory_id integer NOT NULL REFERENCES inventory,
	returned timestamptz
);
CREATE UNIQUE INDEX rental_once ON rental (rented, inventory_id);
CREATE TABLE payment (payment_id bigint NOT NULL, rental_id bigint NOT NULL, amount numeric(5,2) NOT NULL, paid timestamptz NOT NULL, PRIMARY KEY (payment_id, paid)) PARTITION BY RANGE (paid);
CREATE TABLE payment_01 PARTITION OF payment FOR VALUES FROM ('2026-01-01 00:00Z') TO ('2026-02-01 00:00Z');
CREATE TABLE payment_02 PARTITION OF payment FOR VALUES FROM ('2026-02-01 00:00Z') TO ('2026-03-01 00:00Z');
CREATE VIEW film_list AS SELECT f.title, array_agg(a.last_name) FROM film f LEFT JOIN film_actor USING (film_id) LEFT JOIN actor a USING (actor_id) GROUP BY f.title;
CREATE FUNCTION film_touched() RETURNS trigger AS $$ BEGIN NEW.words := to_tsvector('simple', NEW.title); RETURN NEW; END $$ LANGUAGE plpgsql;
CREATE TRIGGER film_words BEFORE INSERT OR UPDATE ON film FOR EACH ROW EXECUTE FUNCTION film_touched();

-- group rows
INSERT INTO language (name) VALUES ('English'), ('Deutsch'), ('日本語');
INSERT INTO film (title, description, release_year, language_id, length, rated, features, last_update) SELECT 'FILM ' || g, repeat('x', g), 1990 + g % 30, 1 + g % 3, g, (ARRAY['G','PG','R'])[1 + g % 3]::rating, ARRAY['Trailers', 'of "' || g || '"'], timestamptz '2026-01-01 00:00Z' + g * interval '1.5 seconds' FROM generate_series(1, 60) g;
INSERT INTO actor (first_name, last_name) SELECT 'First ' || g, 'Last ' || g % 7 FROM generate_series(1, 30) g;
INSERT INTO film_actor SELECT a, f FROM generate_series(1, 30) a, generate_series(1, 60) f WHERE (a + f) % 9 = 0;
INSERT INTO store (city) VALUES ('Lethbridge'), ('Woodridge');
INSERT INTO inventory (film_id, store_id) SELECT f, s FROM generate_series(1, 60) f, generate_series(1, 2) s;
INSERT INTO rental (rented, inventory_id) SELECT timestamptz '2026-01-20 12:00Z' + g * interval '1 hour', g FROM generate_series(1, 100) g;
INSERT INTO payment SELECT g, g, 2.99, timestamptz '2026-01-20 12:00Z' + g * interval '4 hours' FROM generate_series(1, 100) g;

-- group changes
CREATE TABLE payment_03 PARTITION OF payment FOR VALUES FROM ('2026-03-01 00:00Z') TO ('2026-04-01 00:00Z');
INSERT INTO payment SELECT 1000 + g, g, 0.99, timestamptz '2026-03-05 12:00Z' FROM generate_series(1, 10) g;
ALTER TYPE rating ADD VALUE 'NC-17';
ALTER TABLE film ADD COLUMN cost numeric(6,2) NOT NULL DEFAULT 19.99;
ALTER TABLE film ALTER COLUMN length TYPE integer;
ALTER TABLE rental RENAME COLUMN returned TO returned_at;
UPDATE rental SET returned_at = rented + interval '3 days' WHERE rental_id % 2 = 0;
UPDATE film SET rated = 'NC-17', title = title || ' II' WHERE film_id % 20 = 0;
ALTER TABLE payment ADD COLUMN method varchar(10) NOT NULL DEFAULT 'cash';
UPDATE payment SET method = 'card' WHERE payment_id % 5 = 0;
ALTER TABLE film_actor ADD COLUMN part varchar(40);
ALTER TABLE film DROP COLUMN original_language_id;
