package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"cdc-sidecar/schema"
)

// Source is what the window looks at. Status and Live answer at once, from memory: a probe must not wait for a database.
type Source interface {
	// Status is a snapshot; the caller may keep it.
	Status() Status
	// Live is nil while the process itself works: it says nothing of database, broker or other offices.
	Live() error
	// RemoveOffice forgets a member for good: its queue, its place in the journal, its record. ErrUnknownOffice, ErrNotHead.
	RemoveOffice(ctx context.Context, name schema.Office) error
}

// ErrUnknownOffice says that no member has that name.
var ErrUnknownOffice = errors.New("no member has this name")

// ErrNotHead says that members are kept at the head, and this is a branch.
var ErrNotHead = errors.New("members are kept at the head office, and this is a branch")

// Options is what a handler needs.
type Options struct {
	Source Source
	// Conflicts is the conflict log; nil at a branch.
	Conflicts Conflicts
	// Jobs does what a person asks for; nil: nobody does.
	Jobs    Jobs
	Token   string // asked for as a bearer token, but for the probes; empty: none
	Version string // of the program
	// Log hears of what goes wrong with a request and has no other way out (a panic in Source); nil: nobody does.
	Log *slog.Logger
}

//go:embed openapi.json
var openAPI []byte

//go:embed index.html
var index []byte

// Reply bodies of the API; openapi.json describes them.
type (
	// Readiness is the body of /readyz and /livez.
	Readiness struct {
		OK      bool     `json:"ok"`
		State   State    `json:"state,omitempty"`
		Reasons []string `json:"reasons"`
	}
	// Offices is the body of GET /api/v1/offices.
	Offices struct {
		Office  schema.Office `json:"office"` // who says so
		Role    schema.Role   `json:"role"`
		Offices []Peer        `json:"offices"`
	}
	// Problem is the body of every error (RFC 9457).
	Problem struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}
)

type api struct{ Options }

// route is one line of the table that the mux and the test of openapi.json are made from.
type route struct {
	method, path string
	open         bool // without the token: a probe cannot carry one, and these tell no secret
	serve        http.HandlerFunc
}

func (a *api) routes() []route {
	return []route{
		{http.MethodGet, "/livez", true, a.livez},
		{http.MethodGet, "/readyz", true, a.readyz},
		{http.MethodGet, "/metrics", false, a.metrics().ServeHTTP},
		{http.MethodGet, "/api/v1/status", false, a.status},
		{http.MethodGet, "/api/v1/offices", false, a.offices},
		{http.MethodDelete, "/api/v1/offices/{name}", false, a.removeOffice},
		{http.MethodGet, "/api/v1/conflicts", false, a.conflicts},
		{http.MethodGet, "/api/v1/conflicts/{id}", false, a.conflict},
		{http.MethodPost, "/api/v1/conflicts/{id}/resolve", false, a.resolveConflict},
		{http.MethodGet, "/api/v1/jobs", false, a.listJobs},
		{http.MethodPost, "/api/v1/jobs", false, a.startJob},
		{http.MethodGet, "/api/v1/jobs/{id}", false, a.showJob},
		{http.MethodDelete, "/api/v1/jobs/{id}", false, a.cancelJob},
		{http.MethodGet, "/api/openapi.json", false, static("application/json", openAPI)},
		{http.MethodGet, "/", false, static("text/html; charset=utf-8", index)},
	}
}

// NewHandler answers on all endpoints. A page that a browser on this machine has from elsewhere may not change anything:
// guard looks at where a request goes, this at where it comes from.
func NewHandler(o Options) http.Handler {
	a := &api{o}
	mux := http.NewServeMux()
	for _, r := range a.routes() {
		path := r.path
		if path == "/" {
			path = "/{$}"
		}
		serve := http.Handler(r.serve)
		if !r.open {
			serve = a.guard(serve)
		}
		mux.Handle(r.method+" "+path, serve)
	}
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusForbidden, "another site's page may not change anything here")
	}))
	return origin.Handler(mux)
}

// guard asks for the token. Without one the port is only this machine's (the configuration sees to that), but a page in
// a browser on this machine could have its name resolve to 127.0.0.1: so only an address or localhost is taken as host.
func (a *api) guard(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte("Bearer " + a.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		switch {
		case a.Token != "" && subtle.ConstantTimeCompare(got[:], want[:]) != 1:
			w.Header().Set("WWW-Authenticate", `Bearer realm="cdc-sidecar"`)
			problem(w, http.StatusUnauthorized, "this address wants the admin token: Authorization: Bearer …")
		case a.Token == "" && !overSocket(r) && !localHost(r.Host):
			problem(w, http.StatusForbidden, "without an admin token only localhost or an IP address is answered, not the host name "+r.Host)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// overSocket reports a request through a unix socket: no browser gets there, whatever name it asks for.
func overSocket(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

func localHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil
}

func (a *api) livez(w http.ResponseWriter, _ *http.Request) {
	if err := a.Source.Live(); err != nil {
		reply(w, http.StatusServiceUnavailable, Readiness{Reasons: []string{err.Error()}})
		return
	}
	reply(w, http.StatusOK, Readiness{OK: true, Reasons: []string{}})
}

func (a *api) readyz(w http.ResponseWriter, _ *http.Request) {
	s := a.Source.Status()
	code := http.StatusOK
	if !s.Ready {
		code = http.StatusServiceUnavailable
	}
	reply(w, code, Readiness{OK: s.Ready, State: s.State, Reasons: s.Reasons()})
}

func (a *api) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, a.Source.Status().filled())
}

func (a *api) offices(w http.ResponseWriter, _ *http.Request) {
	s := a.Source.Status().filled()
	reply(w, http.StatusOK, Offices{Office: s.Office, Role: s.Role, Offices: s.Peers})
}

func (a *api) removeOffice(w http.ResponseWriter, r *http.Request) {
	name, err := schema.ParseOffice(r.PathValue("name"))
	if err == nil {
		err = a.Source.RemoveOffice(r.Context(), name)
	}
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case name == "":
		problem(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, ErrUnknownOffice):
		problem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, ErrNotHead):
		problem(w, http.StatusConflict, err.Error())
	default:
		problem(w, http.StatusServiceUnavailable, err.Error())
	}
}

func static(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body)
	}
}

func problem(w http.ResponseWriter, code int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	reply(w, code, Problem{Title: http.StatusText(code), Status: code, Detail: detail})
}

// reply writes v as JSON. An error here is the client's connection: there is nobody to tell.
func reply(w http.ResponseWriter, code int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
