package schema

import (
	"fmt"
	"strings"
)

// MySQL and MariaDB end a transaction with every schema change, so that a row of ours beside it cannot say whose it is. A comment
// in the statement can: the servers keep it in their logs.

const ddlTagBegins = "/* cdc_sidecar "

// DDLTag is the comment that stands before a statement by which office does a schema change of origin's: its place in the
// origin's stream, and its stamp. It ends in a blank. Behind DROP TABLE the servers keep no comment but one that follows these two
// words; ParseDDLTag finds it there, too.
func DDLTag(office, origin Office, pos Position, stamp Stamp) string {
	return fmt.Sprintf("%s%s %s %d/%d %d.%d */ ", ddlTagBegins, office, origin, pos.Epoch, pos.Seq, stamp.Millis, stamp.Counter)
}

// ParseDDLTag finds the tag of a statement as the log has it: at its start, or behind its first words.
func ParseDDLTag(statement string) (office, origin Office, pos Position, stamp Stamp, ok bool) {
	before, tag, found := strings.Cut(statement, ddlTagBegins)
	text, _, closed := strings.Cut(tag, "*/")
	if !found || !closed || strings.Trim(before, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz \t\r\n") != "" {
		return "", "", Position{}, Stamp{}, false
	}
	n, err := fmt.Sscanf(text, "%s %s %d/%d %d.%d", &office, &origin, &pos.Epoch, &pos.Seq, &stamp.Millis, &stamp.Counter)
	if err != nil || n != 6 || strings.TrimSpace(DDLTag(office, origin, pos, stamp)) != ddlTagBegins+text+"*/" {
		return "", "", Position{}, Stamp{}, false
	}
	return office, origin, pos, stamp, true
}
