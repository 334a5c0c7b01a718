package capture

import (
	"fmt"
	"strconv"
	"time"

	"cdc-sidecar/schema"
)

// progressColumns are what is read of a progress row, in the order of progressRow.
var progressColumns = [...]string{
	schema.ProgressOffice, schema.ProgressOrigin, schema.ProgressEpoch, schema.ProgressSeq,
	schema.ProgressStampMillis, schema.ProgressStampCounter, schema.ProgressCommitted,
}

// progressRow is what an apply wrote first: whose transaction it applied, and where.
type progressRow struct {
	office, origin schema.Office
	pos            schema.Position
	stamp          schema.Stamp
	commit         time.Time
}

// progressIndexes finds the columns by name, so that the table may have been made by another version.
func progressIndexes(t *schema.Table) ([]int, error) {
	indexes := make([]int, len(progressColumns))
	for i, name := range progressColumns {
		if indexes[i] = t.Column(name); indexes[i] < 0 {
			return nil, &schema.BrokenError{
				What:   fmt.Sprintf("table %s.%s has no column %s", schema.OwnSchema, schema.ProgressTable, name),
				Remedy: "teardown, then start again",
			}
		}
	}
	return indexes, nil
}

func readProgress(indexes []int, row schema.Row) (progressRow, error) {
	p := progressRow{office: schema.Office(row[indexes[0]].Text()), origin: schema.Office(row[indexes[1]].Text())}
	var n [len(progressColumns)]int64
	for i := 2; i < len(indexes); i++ {
		var err error
		if n[i], err = strconv.ParseInt(row[indexes[i]].Text(), 10, 64); err != nil {
			return p, &schema.BrokenError{What: fmt.Sprintf("table %s.%s column %s", schema.OwnSchema, schema.ProgressTable, progressColumns[i]), Cause: err}
		}
	}
	p.pos = schema.Position{Epoch: uint64(n[2]), Seq: uint64(n[3])}
	p.stamp = schema.Stamp{Millis: n[4], Counter: uint32(n[5])}
	p.commit = time.UnixMicro(n[6]).UTC()
	return p, nil
}

// progress takes a change of the progress table in. Deleted rows are administration: no apply.
func (d *postgresDecoder) progress(rel *postgresRelation, after schema.Row) error {
	if after == nil {
		return nil
	}
	p, err := readProgress(rel.progress, after)
	if err != nil {
		return err
	}
	d.applied(p)
	return nil
}
