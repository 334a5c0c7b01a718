package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// Spec is one office of a fleet.
type Spec struct {
	Name     schema.Office
	Role     schema.Role
	Database servers.Database
	// Admin is the sidecar's admin address, host:port; empty: a socket in the office's folder, which no browser opens.
	Admin string
	// Extra lines for its configuration, at the top level.
	Extra string
	// Env are variables that its sidecar has beside Environment's, from its next start on: name=value.
	Env []string
}

// Options say what a fleet is made of.
type Options struct {
	Broker *servers.RabbitMQ
	Binary string // of the sidecar
	Dir    string // for configurations, journals and logs; keep the path short, sockets live there
	// Direct leaves the proxies out that make a link cuttable: benchmarks do not want to measure them.
	Direct  bool
	Name    string // distinguishes the databases and the virtual host of this fleet from another's on the same servers
	Offices []Spec
	// Schema creates the tables; nil: CreateTables.
	Schema func(ctx context.Context, o *Office) error
}

// Fleet is a running company.
type Fleet struct {
	Offices []*Office // in the order of Options
	options Options
	links   *toxiproxy.ApiServer
}

// New makes databases, tables, virtual host and configurations. No sidecar runs yet.
func New(ctx context.Context, o Options) (*Fleet, error) {
	f := &Fleet{options: o}
	f.links = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	if err := o.Broker.CreateVHost(ctx, o.Name); err != nil {
		return nil, fmt.Errorf("virtual host: %w", err)
	}
	for i, spec := range o.Offices {
		office, err := f.office(ctx, i, spec)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("office %s: %w", spec.Name, err), f.Close())
		}
		f.Offices = append(f.Offices, office)
	}
	return f, nil
}

func (f *Fleet) office(ctx context.Context, index int, spec Spec) (*Office, error) {
	database := f.options.Name + "_" + string(spec.Name)
	if err := spec.Database.CreateDatabase(ctx, database); err != nil {
		return nil, err
	}
	o := &Office{Spec: spec, Index: index, Dir: filepath.Join(f.options.Dir, string(spec.Name)), URL: spec.Database.URL(database), database: database, binary: f.options.Binary}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := o.forget(ctx); err != nil {
		return nil, err
	}
	create := f.options.Schema
	if create == nil {
		create = CreateTables
	}
	if err := create(ctx, o); err != nil {
		return nil, fmt.Errorf("create tables: %w", err)
	}
	link, err := f.link(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	o.Link = link
	return o, o.configure()
}

// link puts a proxy between an office and the broker, unless the fleet is Direct.
func (f *Fleet) link(ctx context.Context, name schema.Office) (*Link, error) {
	broker, err := url.Parse(f.options.Broker.URL(f.options.Name))
	if err != nil {
		return nil, err
	}
	if f.options.Direct {
		return &Link{URL: broker.String()}, nil
	}
	port, release, err := servers.ClaimPort(ctx) // one of the system's choice could be somebody else's while the link is cut
	if err != nil {
		return nil, err
	}
	l := &Link{proxy: toxiproxy.NewProxy(f.links, string(name), fmt.Sprintf("127.0.0.1:%d", port), broker.Host), release: release}
	if err := l.proxy.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("link: %w", err), release())
	}
	broker.Host = l.proxy.Listen
	l.URL = broker.String()
	return l, nil
}

// Link is an office's line to the broker. That of a Direct fleet cannot be cut.
type Link struct {
	URL     string
	proxy   *toxiproxy.Proxy
	release func() error
}

// Cut takes the line down: connections break, new ones are refused.
func (l *Link) Cut() { l.proxy.Stop() }

// Restore brings it back on the same address.
func (l *Link) Restore() error {
	if err := l.proxy.Start(); err != nil {
		return fmt.Errorf("restore the link: %w", err)
	}
	return nil
}

func (l *Link) close() error {
	if l.proxy == nil {
		return nil
	}
	l.proxy.Stop()
	return l.release()
}

// Head is the head office.
func (f *Fleet) Head() *Office {
	for _, o := range f.Offices {
		if o.Role == schema.Head {
			return o
		}
	}
	return nil
}

// Start starts every sidecar and waits until the head has heard of every branch.
func (f *Fleet) Start(ctx context.Context) error {
	for _, o := range f.Offices {
		if err := o.Start(); err != nil {
			return err
		}
	}
	return f.Met(ctx)
}

// Met waits until every office is ready and has joined, and the head has begun to apply every branch's stream, and they the
// head's.
func (f *Fleet) Met(ctx context.Context) error {
	return Until(ctx, "the offices know one another", func(ctx context.Context) error {
		for _, o := range f.Offices {
			s, err := o.Status(ctx)
			if err != nil {
				return err
			}
			want := 1
			if o.Role == schema.Head {
				want = len(f.Offices) - 1
			}
			met := 0
			for _, p := range s.Peers {
				if p.Progress.Epoch != 0 && p.State == "active" {
					met++
				}
			}
			if !s.Ready || met != want || s.Joining != nil {
				return fmt.Errorf("%s: ready %v, %d of %d peers; %v", o.Name, s.Ready, met, want, s.Reasons())
			}
		}
		return nil
	})
}

// Settled waits until nothing is under way any more: every office has applied what every other has sent.
func (f *Fleet) Settled(ctx context.Context) error {
	return Until(ctx, "everything has arrived everywhere", func(ctx context.Context) error {
		head, err := f.Head().Status(ctx)
		if err != nil {
			return err
		}
		for _, o := range f.Offices {
			s, err := o.Status(ctx)
			if err != nil {
				return err
			}
			for _, p := range s.Peers {
				if p.Unacknowledged > 0 {
					return fmt.Errorf("%s: %d transactions not acknowledged by %s (%s); %v", o.Name, p.Unacknowledged, p.Office, p.State, s.Reasons())
				}
			}
			if s.Journal.Source == "" || head.Journal.Last == 0 && s.Journal.Last > 0 {
				return fmt.Errorf("%s: not captured yet", o.Name)
			}
		}
		return nil
	})
}

// Close ends the sidecars and the links. Servers, databases and folders belong to the caller.
func (f *Fleet) Close() error {
	var errs []error
	for _, o := range f.Offices {
		o.Kill()
		errs = append(errs, o.Link.close(), o.closeDatabase())
	}
	return errors.Join(errs...)
}

// Drop removes the databases and the virtual host, after Close. Servers of our own take them along when they go.
func (f *Fleet) Drop(ctx context.Context) error {
	errs := []error{f.options.Broker.DeleteVHost(ctx, f.options.Name)}
	for _, o := range f.Offices {
		errs = append(errs, o.Database.DropDatabase(ctx, o.database))
	}
	return errors.Join(errs...)
}

// pollEvery is how often a condition is looked at: a look costs a few local requests.
const pollEvery = 50 * time.Millisecond

// Until polls until f is content, or the context ends: its error then says what was missing last.
func Until(ctx context.Context, what string, f func(ctx context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var last error // before the time was over: what was cut off by that says nothing
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w (%w)", what, last, ctx.Err())
		case <-ticker.C:
		}
	}
}

// VHost is the broker's virtual host of this fleet.
func (f *Fleet) VHost() string { return f.options.Name }
