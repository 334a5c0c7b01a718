-- The shop as a MariaDB has it.

-- group tables
CREATE TABLE customers (
	customer_id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
	email varchar(120) NOT NULL,
	name text NOT NULL,
	born date,
	address json,
	joined timestamp(6) NOT NULL DEFAULT current_timestamp(6),
	UNIQUE KEY email (email),
	CONSTRAINT email_given CHECK (email <> '')
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE categories (category_id smallint PRIMARY KEY, parent_id smallint, title varchar(60) NOT NULL, FOREIGN KEY (parent_id) REFERENCES categories (category_id)) DEFAULT CHARSET=utf8mb4;
-- notice words: a full-text index
CREATE TABLE products (
	sku char(8) PRIMARY KEY,
	category_id smallint NOT NULL,
	title varchar(200) NOT NULL,
	description mediumtext,
	price decimal(10,2) NOT NULL CHECK (price >= 0),
	gross decimal(12,4) AS (price * 1.19) STORED,
	weight float,
	picture blob,
	available tinyint(1) NOT NULL DEFAULT 1,
	FULLTEXT KEY words (title),
	CONSTRAINT of_category FOREIGN KEY (category_id) REFERENCES categories (category_id) ON UPDATE CASCADE
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE orders (
	order_id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
	customer_id int NOT NULL,
	state enum('open','paid','sent') NOT NULL DEFAULT 'open',
	placed datetime(6) NOT NULL,
	total decimal(12,2),
	KEY of_customer (customer_id, placed),
	CONSTRAINT customer FOREIGN KEY (customer_id) REFERENCES customers (customer_id)
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE items (
	order_id bigint NOT NULL,
	line int NOT NULL,
	sku char(8) NOT NULL,
	qty int NOT NULL DEFAULT 1,
	PRIMARY KEY (order_id, line),
	CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES orders (order_id),
	CONSTRAINT of_product FOREIGN KEY (sku) REFERENCES products (sku)
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE audit (id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, what varchar(40) NOT NULL, order_id bigint);
CREATE VIEW open_orders AS SELECT o.order_id, c.name FROM orders o JOIN customers c USING (customer_id) WHERE o.state = 'open';
CREATE TRIGGER states AFTER INSERT ON orders FOR EACH ROW INSERT INTO audit (what, order_id) VALUES (NEW.state, NEW.order_id);

-- group rows
INSERT INTO categories VALUES (1, NULL, 'all'), (2, 1, 'books'), (3, 1, 'Spiel & Spaß');
INSERT INTO customers (email, name, born, address, joined) SELECT concat('c', seq, '@example.org'), concat('Kundin ', seq), date '1950-01-01' + INTERVAL seq * 100 DAY, json_object('city', 'Köln', 'zip', seq), '2026-01-01 10:00:00' + INTERVAL seq HOUR FROM seq_1_to_50;
INSERT INTO products (sku, category_id, title, description, price, weight, picture) SELECT concat('sku', lpad(seq, 5, '0')), 1 + seq % 3, concat('title ', seq), repeat('words ', seq), seq * 1.25, seq * 0.5, unhex(md5(seq)) FROM seq_1_to_40;
INSERT INTO orders (customer_id, placed, total) SELECT 1 + seq % 50, '2026-02-01 09:00:00' + INTERVAL seq MINUTE, seq * 2.5 FROM seq_1_to_100;
INSERT INTO items SELECT o.order_id, l.seq, concat('sku', lpad(1 + (o.order_id + l.seq) % 40, 5, '0')), l.seq FROM orders o, seq_1_to_3 l;
UPDATE orders SET state = 'paid' WHERE order_id % 3 = 0;
DELETE i FROM items i JOIN orders o USING (order_id) WHERE order_id % 10 = 0;
DELETE FROM orders WHERE order_id % 10 = 0;

-- group changes
ALTER TABLE orders MODIFY state enum('open','paid','sent','returned') NOT NULL DEFAULT 'open';
ALTER TABLE customers ADD COLUMN phone varchar(30) AFTER email;
ALTER TABLE customers CHANGE name full_name text NOT NULL;
ALTER TABLE products DROP COLUMN gross, MODIFY price decimal(12,2) NOT NULL;
ALTER TABLE items ADD COLUMN discount decimal(5,2) NOT NULL DEFAULT 0;
CREATE INDEX by_category ON products (category_id, title);
UPDATE orders SET state = 'returned' WHERE order_id = 7;
UPDATE customers SET phone = concat('+49 221 ', customer_id) WHERE customer_id < 10;
UPDATE products SET price = price + 1 WHERE sku LIKE '%1';
CREATE TABLE reviews (sku char(8) NOT NULL, customer_id int NOT NULL, stars smallint CHECK (stars BETWEEN 1 AND 5), words text, PRIMARY KEY (sku, customer_id), FOREIGN KEY (sku) REFERENCES products (sku) ON DELETE CASCADE) DEFAULT CHARSET=utf8mb4;
INSERT INTO reviews SELECT 'sku00001', seq, 1 + seq % 5, 'good' FROM seq_1_to_20;
