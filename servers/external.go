package servers

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
)

// The environment variables that name external servers: URLs, comma separated. When there are fewer than a Spec asks for,
// several entries of the Set are the same server, told apart by their databases or virtual hosts.
const (
	envPostgres = "CDC_TEST_POSTGRES"
	envMySQL    = "CDC_TEST_MYSQL"
	envAMQP     = "CDC_TEST_AMQP"
)

// addExternal adds the servers that the environment names and returns the kinds that remain to be started.
func (s *Set) addExternal(spec Spec) ([]Kind, error) {
	postgres, err := externals(envPostgres, "postgres", "postgresql")
	if err != nil {
		return nil, err
	}
	maria, err := externals(envMySQL, "mysql")
	if err != nil {
		return nil, err
	}
	amqp, err := externals(envAMQP, "amqp", "amqps")
	if err != nil {
		return nil, err
	}
	var kinds []Kind
	if spec.Postgres > 0 && len(postgres) == 0 {
		kinds = append(kinds, KindPostgres)
	}
	if spec.MariaDB > 0 && len(maria) == 0 {
		kinds = append(kinds, KindMariaDB)
	}
	if spec.RabbitMQ > 0 && len(amqp) == 0 {
		kinds = append(kinds, KindRabbitMQ)
	}
	for i := 0; i < spec.Postgres && len(postgres) > 0; i++ {
		s.Postgres = append(s.Postgres, &Postgres{server: &server{external: postgres[i%len(postgres)]}})
	}
	for i := 0; i < spec.MariaDB && len(maria) > 0; i++ {
		s.MariaDB = append(s.MariaDB, &MariaDB{server: &server{external: maria[i%len(maria)]}})
	}
	for i := 0; i < spec.RabbitMQ && len(amqp) > 0; i++ {
		s.RabbitMQ = append(s.RabbitMQ, &RabbitMQ{server: &server{external: amqp[i%len(amqp)]}})
	}
	return kinds, nil
}

// externals reads a variable. An address is not repeated in an error: it may hold a password.
func externals(variable string, schemes ...string) ([]*url.URL, error) {
	var all []*url.URL
	for i, text := range strings.FieldsFunc(os.Getenv(variable), func(r rune) bool { return r == ',' || r == ' ' }) {
		u, err := url.Parse(text)
		var shape *url.Error
		if errors.As(err, &shape) {
			return nil, fmt.Errorf("%s, address %d: %w", variable, i+1, shape.Err)
		}
		if u.Host == "" || !slices.Contains(schemes, u.Scheme) {
			return nil, fmt.Errorf("%s, address %d: must be like %s://user:password@host:port/", variable, i+1, schemes[0])
		}
		all = append(all, u)
	}
	return all, nil
}

func externalVariable(kind Kind) string {
	return map[Kind]string{KindPostgres: envPostgres, KindMariaDB: envMySQL, KindRabbitMQ: envAMQP}[kind]
}
