package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cdc-sidecar/fleet"
	"cdc-sidecar/schema"
	"cdc-sidecar/servers"
)

// demoCloseLimit bounds the removal of what was made on servers that are not ours.
const demoCloseLimit = 30 * time.Second

// demoStage is what a demonstration stands on: a folder, servers and offices. All of it goes when it is closed.
type demoStage struct {
	keep  bool
	dir   string
	set   *servers.Set
	fleet *fleet.Fleet
	ports []func() error // releases the admin ports
}

// open makes everything and starts the servers; no sidecar runs yet. What it made before an error is for close.
func (s *demoStage) open(ctx context.Context, screen *demoScreen) error {
	began := time.Now()
	if err := servers.Install(ctx, screen.out, servers.KindPostgres, servers.KindMariaDB, servers.KindRabbitMQ); err != nil {
		return &environmentError{err}
	}
	screen.note("programs", "Postgres, MariaDB and RabbitMQ are installed")
	var err error
	if s.dir, err = os.MkdirTemp("", "cdc-demo-"); err != nil {
		return &environmentError{err}
	}
	// The servers do not run as root and have to pass through; nothing in it can be listed or read by others.
	if err := os.Chmod(s.dir, 0o711); err != nil {
		return err
	}
	if s.set, err = servers.Start(ctx, servers.Spec{Postgres: 2, MariaDB: 1, RabbitMQ: 1, Dir: s.dir}); err != nil {
		return &environmentError{err}
	}
	screen.note("servers", fmt.Sprintf("head postgres :%d · north postgres :%d · south mariadb :%d · rabbitmq :%d · %.1f s",
		s.set.Postgres[0].Port(), s.set.Postgres[1].Port(), s.set.MariaDB[0].Port(), s.set.RabbitMQ[0].Port(), time.Since(began).Seconds()))
	return s.openFleet(ctx)
}

func (s *demoStage) openFleet(ctx context.Context) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	offices := []fleet.Spec{
		{Name: "head", Role: schema.Head, Database: s.set.Postgres[0]},
		{Name: "north", Role: schema.Branch, Database: s.set.Postgres[1]},
		{Name: "south", Role: schema.Branch, Database: s.set.MariaDB[0]},
	}
	for i := range offices {
		port, release, err := servers.ClaimPort(ctx)
		if err != nil {
			return fmt.Errorf("admin address of %s: %w", offices[i].Name, err)
		}
		s.ports = append(s.ports, release)
		offices[i].Admin = fmt.Sprintf("127.0.0.1:%d", port)
	}
	s.fleet, err = fleet.New(ctx, fleet.Options{
		Broker: s.set.RabbitMQ[0], Binary: binary, Dir: filepath.Join(s.dir, "fleet"), Offices: offices,
		Name: "demo_" + strings.ToLower(rand.Text()[:6]), // servers that are not ours may have a demo already
	})
	return err
}

// close ends and removes everything, in reverse. With keep the folder stays, with the servers' logs in it, and is returned;
// a folder with nothing in it does not.
func (s *demoStage) close(keep bool) (kept string, err error) {
	var errs []error
	if s.fleet != nil {
		errs = append(errs, s.fleet.Close(), s.drop())
	}
	if s.set != nil {
		if keep {
			errs = append(errs, s.saveLogs())
		}
		errs = append(errs, s.set.Close())
	}
	for _, release := range s.ports {
		errs = append(errs, release())
	}
	if s.dir == "" || keep && os.Remove(s.dir) != nil {
		return s.dir, errors.Join(errs...)
	}
	return "", errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// drop leaves servers that are not ours as they were; above all no slot that would hold their log for ever.
func (s *demoStage) drop() error {
	for _, log := range s.logs() {
		if log == "" {
			ctx, cancel := context.WithTimeout(context.Background(), demoCloseLimit)
			defer cancel()
			return s.fleet.Drop(ctx)
		}
	}
	return nil
}

// logs are the servers' logs; an external server has none.
func (s *demoStage) logs() []string {
	var logs []string
	for _, p := range s.set.Postgres {
		logs = append(logs, p.Log())
	}
	for _, m := range s.set.MariaDB {
		logs = append(logs, m.Log())
	}
	for _, r := range s.set.RabbitMQ {
		logs = append(logs, r.Log())
	}
	return logs
}

// saveLogs copies the servers' logs to where they outlive the servers' own folder.
func (s *demoStage) saveLogs() error {
	var errs []error
	for _, log := range s.logs() {
		if log != "" {
			errs = append(errs, copyFile(filepath.Join(s.dir, filepath.Base(filepath.Dir(log))+".log"), log))
		}
	}
	return errors.Join(errs...)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// lastLine is what a log says last, which of a program that ended is why.
func lastLine(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
