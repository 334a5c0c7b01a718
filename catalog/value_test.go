package catalog

import (
	"testing"

	"cdc-sidecar/schema"
)

func TestPostgresValues(t *testing.T) {
	for _, test := range []struct {
		column schema.Column
		text   string
		want   string // empty: refused
	}{
		{schema.Column{Kind: schema.KindBool}, "t", "1"},
		{schema.Column{Kind: schema.KindBool}, "f", "0"},
		{schema.Column{Kind: schema.KindBool}, "yes", ""},
		{schema.Column{Kind: schema.KindBytes}, `\x00ff`, "\x00\xff"},
		{schema.Column{Kind: schema.KindBytes}, `\377`, ""},
		{schema.Column{Kind: schema.KindBytes}, `\x0`, ""},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "1000000", "1e+06"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "0.1", "0.1"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "-0", "-0"},
		{schema.Column{Kind: schema.KindFloat, Size: 64}, "-Infinity", "-Infinity"},
		{schema.Column{Kind: schema.KindFloat, Size: 32}, "1.17549435e-38", "1.1754944e-38"},
		{schema.Column{Kind: schema.KindFloat, Size: 32}, "one", ""},
		{schema.Column{Kind: schema.KindTimestampTZ}, "2024-01-01 00:00:00.5+00", "2024-01-01 00:00:00.5"},
		{schema.Column{Kind: schema.KindTimestampTZ}, "0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00 BC"},
		{schema.Column{Kind: schema.KindTimestampTZ}, "-infinity", "-infinity"},
		{schema.Column{Kind: schema.KindTimestampTZ}, "2024-01-01 00:00:00+01", ""},
		{schema.Column{Kind: schema.KindText, Fixed: true, Size: 5}, "ab   ", "ab"},
		{schema.Column{Kind: schema.KindText, Size: 5}, "ab   ", "ab   "},
		{schema.Column{Kind: schema.KindDecimal}, "-10.50", "-10.50"},
	} {
		got, err := convert(PostgresCanonical(&test.column), test.text)
		if (err != nil) != (test.want == "") || got != test.want && err == nil {
			t.Errorf("%s %q: got %q, %v; want %q", test.column.Kind, test.text, got, err, test.want)
		}
	}
}

func convert(canonical func(string) (string, error), text string) (string, error) {
	if canonical == nil {
		return text, nil
	}
	return canonical(text)
}
