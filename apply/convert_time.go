package apply

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"cdc-sidecar/schema"
)

func (p pair) toDate() converter {
	if p.from.Kind != schema.KindDate {
		return p.never()
	}
	if !p.crossing {
		return nil
	}
	return check(plainDate)
}

// plainDate is a date that both families have: the years 1 to 9999, no infinity, no zero month or day, no 31st of February.
func plainDate(text string) error {
	if len(text) == 10 && text[4] == '-' && text[7] == '-' && digitsOnly(text[:4]) && digitsOnly(text[5:7]) && digitsOnly(text[8:]) &&
		text[:4] != "0000" && text[5:7] != "00" && text[8:] != "00" {
		if _, err := time.Parse(time.DateOnly, text); text[8:] <= "28" || err == nil {
			return nil
		}
	}
	return errors.New("only a day of the years 0001 to 9999 exists in both databases")
}

// fraction checks the digits of a second's fraction: both families round what is too long.
func (p pair) fraction(text string) error {
	if p.to.Scale < 0 {
		return nil
	}
	if _, digits, ok := strings.Cut(text, "."); ok && len(digits) > p.to.Scale {
		return fmt.Errorf("%d digits of the second's fraction, the column holds %d", len(digits), p.to.Scale)
	}
	return nil
}

func (p pair) sameFraction() bool {
	return p.to.Scale < 0 || p.to.Scale >= 6 || p.from.Scale >= 0 && p.from.Scale <= p.to.Scale
}

func (p pair) toTime() converter {
	if p.from.Kind != schema.KindTime {
		return p.never()
	}
	if p.sameFraction() && !p.intoPostgres() {
		return nil
	}
	return check(func(text string) error {
		day := len(text) >= 8 && text[2] == ':' && (text[:2] < "24" || strings.Trim(text, "0:.") == "24")
		if !p.toMySQL && !day {
			return errors.New("Postgres' time ends at 24:00:00 and is never negative")
		}
		return p.fraction(text)
	})
}

// toTimestamp: an instant is not the same value as a wall clock's reading, so the kinds do not mix; except that between
// Postgres' timestamptz and MySQL's DATETIME, the only type there that reaches beyond 2038, instants stand in UTC.
func (p pair) toTimestamp() converter {
	instant := p.from.Kind == schema.KindTimestampTZ && p.intoMySQL()
	if p.from.Kind != schema.KindTimestamp && !instant {
		return p.never()
	}
	return p.datetime(nil)
}

func (p pair) toTimestampTZ() converter {
	instant := p.from.Kind == schema.KindTimestamp && p.intoPostgres() && !strings.HasPrefix(strings.ToLower(p.from.Native), "timestamp")
	if p.from.Kind != schema.KindTimestampTZ && !instant {
		return p.never()
	}
	if p.intoMySQL() {
		return p.datetime(func(text string) error {
			first := "1970-01-01 00:00:01"
			if p.target == schema.MariaDB { // which would take the epoch itself for its zero date
				first = "1970-01-01 00:00:00.000001"
			}
			if text < first {
				return fmt.Errorf("%s begins at %s; a DATETIME(6) holds it", describe(p.to), first)
			}
			return nil
		})
	}
	return p.datetime(nil)
}

func (p pair) datetime(more func(string) error) converter {
	if !p.crossing && p.sameFraction() {
		return nil
	}
	return check(func(text string) error {
		if p.crossing {
			if err := plainDate(text[:min(len(text), 10)]); err != nil || strings.HasSuffix(text, "BC") {
				return cmp.Or(err, errors.New("only a day of the years 0001 to 9999 exists in both databases"))
			}
		}
		if more != nil {
			if err := more(text); err != nil {
				return err
			}
		}
		return p.fraction(text)
	})
}
