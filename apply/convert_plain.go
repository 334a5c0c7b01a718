package apply

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// readByServer reports whether a value of one column is to be read by Postgres' own input for the other's type: a text that stands
// at an office that lacks the type, or a value of the same type with other limits. What Postgres would write of it must be the very
// text that came, or the two offices would hold different ones.
func readByServer(from, to *schema.Column, source, target schema.Engine) bool {
	if target != schema.Postgres || from.Kind == to.Kind && from.Native == to.Native {
		return false
	}
	switch to.Kind {
	case schema.KindInterval, schema.KindTimeTZ:
		return from.Kind == schema.KindText || from.Kind == to.Kind
	case schema.KindNative:
		return from.Kind == schema.KindText || source != schema.Postgres && addresses[baseType(from.Native)] && to.Native == "inet"
	}
	return false
}

// addresses are MariaDB's types of network addresses.
var addresses = map[string]bool{"inet4": true, "inet6": true}

// notPlain begins the error that Postgres is made to give of a text that it reads and would write otherwise.
const notPlain = "the text is not in the plain form of its type: "

// plainForm is an expression of the type that the text of a place stands for, or fails. format writes a value as the log has it, which
// a cast to text does not do of every type (an inet gets its netmask); neither it nor concat is worked out before it is needed, for their
// outcomes may depend on settings.
func plainForm(place, kind string) string {
	text := place + "::pg_catalog.text"
	value := text + "::" + kind
	return "CASE WHEN " + text + " IS NULL OR " + text + " = pg_catalog.format('%s', " + value + ") THEN " + value +
		" ELSE pg_catalog.concat('" + notPlain + "', " + text + ")::pg_catalog.int4::pg_catalog.text::" + kind + " END"
}

// plainCause words a server's error about a text that is not in its plain form.
func plainCause(err error) error {
	if strings.Contains(err.Error(), notPlain) {
		return errors.New(strings.TrimSuffix(notPlain, ": "))
	}
	return err
}

// toServer is for what the server reads and checks.
func (p pair) toServer() converter {
	if !readByServer(&p.from, &p.to, p.source, p.target) {
		if p.from.Kind == p.to.Kind && !p.crossing {
			return nil
		}
		return p.never()
	}
	fixed := p.from.Fixed && p.from.Kind == schema.KindText
	return func(text string) (string, error) {
		if fixed {
			text = strings.TrimRight(text, " ") // the padding of char(n) is not part of the value
		}
		return text, noNUL(text)
	}
}

// toAddress is for MariaDB's inet4 and inet6, from a text or from Postgres' inet: an address as MariaDB writes it.
func (p pair) toAddress() converter {
	return check(func(text string) error {
		address, err := netip.ParseAddr(text)
		switch base := baseType(p.to.Native); {
		case err != nil || address.Zone() != "" || address.Is4() != (base == "inet4"):
			return fmt.Errorf("the text is no address of an %s", base)
		case catalog.MariaDBAddress(address) != text:
			return errors.New(strings.TrimSuffix(notPlain, ": "))
		}
		return nil
	})
}

func noNUL(text string) error {
	if strings.IndexByte(text, 0) >= 0 {
		return errors.New("Postgres holds no NUL character in text")
	}
	return nil
}
