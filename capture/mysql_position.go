package capture

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"

	"cdc-sidecar/schema"
)

// mysqlPosition is a place in a binlog, in global transaction identifiers, so that it survives a failover to a replica and
// is never taken for a place in another server's history. MySQL's is the set of all transactions executed, MariaDB's the
// newest transaction of each replication domain.
type mysqlPosition struct {
	mysql   *mysql.MysqlGTIDSet // nil for MariaDB
	domains []mysql.MariadbGTID // in the order in which they came; nearly always one
}

func parseMySQLPosition(engine schema.Engine, text string) (*mysqlPosition, error) {
	if engine == schema.MySQL {
		set, err := mysql.ParseMysqlGTIDSet(text)
		if err != nil {
			return nil, fmt.Errorf("position %q: %w", text, err)
		}
		return &mysqlPosition{mysql: set.(*mysql.MysqlGTIDSet)}, nil
	}
	set, err := mysql.ParseMariadbGTIDSet(text)
	if err != nil {
		return nil, fmt.Errorf("position %q: %w", text, err)
	}
	p := &mysqlPosition{}
	for _, gtid := range set.(*mysql.MariadbGTIDSet).Sets {
		p.domains = append(p.domains, *gtid)
	}
	return p, nil
}

// set is the position for the replication protocol, a copy.
func (p *mysqlPosition) set() (mysql.GTIDSet, error) {
	if p.mysql != nil {
		return p.mysql.Clone(), nil
	}
	return mysql.ParseMariadbGTIDSet(p.String())
}

// copy does not move with p.
func (p *mysqlPosition) copy() (*mysqlPosition, error) {
	if p.mysql == nil {
		return &mysqlPosition{domains: slices.Clone(p.domains)}, nil
	}
	return parseMySQLPosition(schema.MySQL, p.String())
}

// behind is the place behind the next transaction.
func (p *mysqlPosition) behind(next mysqlGTID) (*mysqlPosition, error) {
	q, err := p.copy()
	if err != nil {
		return nil, err
	}
	return q, q.advance(next)
}

func (p *mysqlPosition) String() string {
	if p.mysql != nil {
		return p.mysql.String()
	}
	var text []byte
	for i, d := range p.domains {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(strconv.AppendUint(text, uint64(d.DomainID), 10), '-')
		text = append(strconv.AppendUint(text, uint64(d.ServerID), 10), '-')
		text = strconv.AppendUint(text, d.SequenceNumber, 10)
	}
	return string(text)
}

// mysqlGTID is one transaction's identifier, of either engine.
type mysqlGTID struct {
	domain mysql.MariadbGTID
	server [16]byte
	tag    mysql.Tag
	number int64
}

// advance takes a transaction in. A MariaDB domain whose numbers do not rise has no place that a single number could name.
func (p *mysqlPosition) advance(next mysqlGTID) error {
	if p.mysql != nil {
		p.mysql.AddGTIDWithTag(next.server, next.tag, next.number)
		return nil
	}
	for i := range p.domains {
		d := &p.domains[i]
		if d.DomainID != next.domain.DomainID {
			continue
		}
		if next.domain.SequenceNumber <= d.SequenceNumber {
			return &schema.BrokenError{
				What: fmt.Sprintf("MariaDB's binlog goes back in replication domain %d: transaction %s comes after %s",
					d.DomainID, next.domain.String(), d.String()),
				Remedy: "SET GLOBAL gtid_strict_mode = ON, write to one server at a time, then let the office join again",
			}
		}
		*d = next.domain
		return nil
	}
	p.domains = append(p.domains, next.domain)
	return nil
}

// reached reports whether a server at p has executed all that q names. For MariaDB, whose positions are no sets, this is as
// much as the numbers can tell; the rest the server itself checks when the binlog is asked for.
func (p *mysqlPosition) reached(q *mysqlPosition) bool {
	if p.mysql != nil {
		return q.mysql != nil && p.mysql.Contain(q.mysql)
	}
	for _, want := range q.domains {
		if !slices.ContainsFunc(p.domains, func(have mysql.MariadbGTID) bool {
			return have.DomainID == want.DomainID && have.SequenceNumber >= want.SequenceNumber
		}) {
			return false
		}
	}
	return true
}
