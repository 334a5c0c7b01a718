package capture

import (
	"fmt"
	"strings"

	"cdc-sidecar/schema"
)

// journalRow is what the database knows of the office's journal.
type journalRow struct {
	epoch uint64
	began string
}

// life says what a start has to do with the journal's row.
type life uint8

const (
	goesOn life = iota + 1 // the row is the journal's own
	first                  // there is no row: the office's first life, or the first with this database
	renews                 // a loss was noticed, and this is the journal of the life after it
)

// judge says whether a journal (at: its durable Source, empty for a new one) and what the database knows (nil: nothing) are
// of one life. Its error is a *schema.LostError.
func judge(office schema.Office, epoch uint64, at string, row *journalRow) (life, error) {
	if row == nil {
		if at == "" {
			return first, nil
		}
		return 0, &schema.LostError{
			Kind: schema.Stranger,
			What: fmt.Sprintf("the database does not know the journal of office %s: it was emptied, torn down, or is another one", office),
		}
	}
	lost := &schema.LostError{Known: row.epoch, Kind: schema.LostJournal}
	kind, noticed := noticedLoss(row.began)
	switch {
	case noticed && at == "" && epoch > row.epoch:
		return renews, nil
	case noticed:
		lost.Kind, lost.What = kind, "it was noticed at an earlier start, which did not come to its end"
	case row.epoch == epoch:
		return goesOn, nil
	case row.epoch < epoch && at != "":
		lost.Kind = schema.Restored
		lost.What = fmt.Sprintf("the database knows the journal of an earlier life (epoch %d there, %d here): it went back to an earlier state", row.epoch, epoch)
	default:
		lost.What = fmt.Sprintf("the journal of office %s was lost or belongs to another database (epoch %d here, %d in the database)", office, epoch, row.epoch)
	}
	return 0, lost
}

// noticedLoss reads a word of the journal's row that says that a loss is being mended.
func noticedLoss(began string) (kind schema.Lost, noticed bool) {
	switch began {
	case schema.BeginsLost:
		return schema.LostLog, true
	case schema.BeginsRestored:
		return schema.Restored, true
	}
	return 0, false
}

// lostRemedy is what to do about a log that cannot be read on.
const lostRemedy = "cdc-sidecar run: it begins a new journal and compares the tables with the other offices'"

// begins is the word that notes a loss in the journal's row until the next journal begins.
func begins(kind schema.Lost) string {
	if kind == schema.Restored {
		return schema.BeginsRestored
	}
	return schema.BeginsLost
}

// stillRestored is true, in SQL, of the journal's row j of a head whose database was restored, while there is a branch that
// has not followed its stream since: that one still has to send what the head lacks, whatever else is lost meanwhile.
const stillRestored = "began = '" + schema.BeganRestored + "' AND EXISTS (SELECT 1 FROM cdc_sidecar.offices o WHERE o.office = j.office AND o.reported_epoch <> j.epoch)"

// beganAs is how the life begins of which the row tells now.
func beganAs(row *journalRow) string {
	if row == nil {
		return ""
	}
	if kind, noticed := noticedLoss(row.began); noticed {
		return kind.Began()
	}
	return row.began
}

// lostBinlog sorts the words of a server that cannot send its binlog from our place on; nil: they tell of no loss.
func lostBinlog(words error) error {
	text := words.Error()
	for _, of := range []struct {
		words string
		kind  schema.Lost
		what  string
	}{
		{"purged", schema.LostLog, "the server has purged its binlog before it was read (keep it longer: SET GLOBAL binlog_expire_logs_seconds = 604800)"},
		{"not in the master's binlog", schema.Restored, "the server's binlog does not have the journal's last transaction"},
		{"Could not find first log file", schema.LostLog, "a file of the server's binlog is gone"},
		{"could not find next log", schema.LostLog, "a file of the server's binlog is gone"},
		{"Could not open log file", schema.LostLog, "a file of the server's binlog is gone"},
	} {
		if strings.Contains(text, of.words) {
			return &schema.LostError{Kind: of.kind, What: of.what, Cause: words}
		}
	}
	return nil
}
