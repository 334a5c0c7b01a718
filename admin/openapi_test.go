package admin

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cdc-sidecar/schema"
)

// described is the part of openapi.json that the tests read.
type described struct {
	OpenAPI    string
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]struct {
			Type       string
			Properties map[string]json.RawMessage
			Required   []string
		}
	}
}

func readDescription(t *testing.T) described {
	t.Helper()
	code, body := ask(t, start(t, Options{Source: &fake{}}), "GET", "/api/openapi.json", nil)
	var d described
	if err := json.Unmarshal([]byte(body), &d); err != nil || code != http.StatusOK || !strings.HasPrefix(d.OpenAPI, "3.1") {
		t.Fatalf("%d, OpenAPI %q: %v", code, d.OpenAPI, err)
	}
	return d
}

func TestEveryRouteIsDescribed(t *testing.T) {
	var routes, documented []string
	for _, r := range (&api{Options{Source: &fake{}}}).routes() {
		routes = append(routes, r.method+" "+r.path)
	}
	for path, methods := range readDescription(t).Paths {
		for method := range methods {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routes)
	slices.Sort(documented)
	if !slices.Equal(routes, documented) {
		t.Errorf("routes    %q\ndescribed %q", routes, documented)
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	schemas := readDescription(t).Components.Schemas
	for _, v := range []any{
		Status{},
		Corridor{},
		Journal{},
		Changes{},
		Capture{},
		Broker{},
		Position{},
		Peer{},
		Halt{},
		Apply{},
		schema.Finding{},
		ConflictCounts{},
		ConflictCount{},
		SchemaChanges{},
		SchemaStep{},
		Drift{},
		WaitingTable{},
		DriftTable{},
		Clocks{},
		Sync{},
		Joining{},
		JoinTable{},
		Verify{},
		Spec{},
		Job{},
		JobList{},
		StartedJob{},
		Moved{},
		MovedCount{},
		OfficeReport{},
		TableReport{},
		KeyReport{},
		Conflict{},
		ConflictSide{},
		ConflictList{},
		Resolve{},
		Offices{},
		Readiness{},
		Problem{},
	} {
		typ := reflect.TypeOf(v)
		var fields, required []string
		for i := range typ.NumField() {
			name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			fields = append(fields, name)
			if options == "" {
				required = append(required, name)
			}
		}
		d := schemas[typ.Name()]
		slices.Sort(fields)
		slices.Sort(required)
		slices.Sort(d.Required)
		if got := slices.Sorted(maps.Keys(d.Properties)); !slices.Equal(got, fields) || !slices.Equal(d.Required, required) {
			t.Errorf("%s:\n has       %q, always %q\n described %q, always %q", typ.Name(), fields, required, got, d.Required)
		}
	}
}
