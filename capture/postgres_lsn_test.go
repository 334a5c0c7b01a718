package capture

import (
	"testing"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"
)

func TestAppendLSN(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lsn := rapid.Uint64().Draw(t, "lsn")
		if got, want := string(appendLSN(nil, lsn)), pglogrepl.LSN(lsn).String(); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}
