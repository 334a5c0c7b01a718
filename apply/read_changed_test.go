package apply

import (
	"context"
	"strings"
	"testing"
	"time"

	"cdc-sidecar/catalog"
	"cdc-sidecar/schema"
)

// Keys that were made before a table was changed are refused, with the definition that refuses them.
func TestKeysOfAFormerDefinition(t *testing.T) {
	m := NewMemory(MemoryOptions{Engine: schema.Postgres, Now: time.Now, Tables: []catalog.Table{{Table: item, OwnSchema: "public"}}})
	a := New(m.Target(func(context.Context, string) error { return nil }), Options{Office: "o", Role: schema.Branch})
	defer a.Close()
	former := schema.Row{schema.Of("1")}
	refused := func(what string, got *schema.Table, err error) {
		if err == nil || !strings.Contains(err.Error(), "has changed") || got == nil || got.Fingerprint() != item.Fingerprint() {
			t.Errorf("%s: %v, by %v", what, err, got)
		}
	}
	got, _, err := a.Find(t.Context(), item.TableName, []schema.Row{former})
	refused("find", got, err)
	got, _, _, err = a.Stretch(t.Context(), item.TableName, former, 10, 1000)
	refused("stretch", got, err)
	got, _, _, err = a.Keys(t.Context(), item.TableName, former, 10)
	refused("keys", got, err)
}
