package schema

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// DSN is a database URL as the configuration has it, taken apart:
// postgres://user:password@host:port/database?params or mysql://… (MySQL and MariaDB).
type DSN struct {
	Scheme   string // postgres or mysql
	User     string
	Password string
	Host     string
	Port     string
	Database string
	Params   url.Values
	raw      string
}

// ParseDSN checks and splits a database URL. Its errors do not repeat the password.
func ParseDSN(raw string) (DSN, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return DSN{}, fmt.Errorf("database URL: not a URL (is a special character of the password not percent-encoded?)")
	}
	d := DSN{Scheme: u.Scheme, User: u.User.Username(), Host: u.Hostname(), Port: u.Port(), Database: strings.TrimPrefix(u.Path, "/"), Params: u.Query(), raw: raw}
	d.Password, _ = u.User.Password()
	switch d.Scheme {
	case "postgres", "postgresql":
		d.Scheme = "postgres"
		if d.Port == "" {
			d.Port = "5432"
		}
	case "mysql", "mariadb":
		d.Scheme = "mysql"
		if d.Port == "" {
			d.Port = "3306"
		}
	default:
		return DSN{}, fmt.Errorf("database URL: scheme %q, want postgres:// or mysql://", u.Scheme)
	}
	if d.Host == "" || d.Database == "" {
		return DSN{}, fmt.Errorf("database URL: want %s://user:password@host:port/database", d.Scheme)
	}
	return d, nil
}

// URL is the URL as it was given, password and all.
func (d DSN) URL() string { return d.raw }

// Address is host:port.
func (d DSN) Address() string { return net.JoinHostPort(d.Host, d.Port) }

// String is for logs: no password.
func (d DSN) String() string {
	return fmt.Sprintf("%s://%s@%s/%s", d.Scheme, d.User, d.Address(), d.Database)
}

// DefaultSchema is the schema of this database that is the fleet's default one: MySQL's database, Postgres' public.
func (d DSN) DefaultSchema() string {
	if d.Scheme == "mysql" {
		return d.Database
	}
	return "public"
}
