package servers

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

//go:embed install.sh
var installScript string

// packages are the Debian packages that hold each kind's programs. MariaDB's core has no service, which is all the better.
var packages = map[Kind]string{
	KindPostgres: "postgresql",
	KindMariaDB:  "mariadb-server-core",
	KindRabbitMQ: "rabbitmq-server",
}

// Install makes sure that the programs of the kinds are there: missing ones come from apt, when this is a Debian and we are
// root or may become it without a password. No service is started. Otherwise the error holds the line to run. What apt says
// goes to log.
func Install(ctx context.Context, log io.Writer, kinds ...Kind) error {
	var absent []Kind
	for _, kind := range kinds {
		if err := find(Spec{}, kind); err == nil || os.Getenv(externalVariable(kind)) != "" {
			continue
		} else if !errors.Is(err, errMissing) {
			return fmt.Errorf("install: %w", err)
		}
		absent = append(absent, kind)
	}
	if len(absent) == 0 {
		return nil
	}
	prefix, ok := becomeRoot(ctx)
	if _, err := exec.LookPath("apt-get"); err != nil || !ok {
		return fmt.Errorf("install: %w", missing(Spec{}, absent))
	}
	if _, err := fmt.Fprintf(log, "installing %s\n", packageNames(absent)); err != nil {
		return err
	}
	args := append(prefix, "/usr/bin/env", "CDC_INSTALL_SCRIPT="+installScript, "/bin/sh", "-c", installScript, "install")
	args = append(args, strings.Fields(packageNames(absent))...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install %s: %w", packageNames(absent), err)
	}
	if err := missing(Spec{}, absent); err != nil {
		return fmt.Errorf("installed, but: %w", err)
	}
	return nil
}

// missing is nil when the programs of all kinds are there, or else an error that says what to do.
func missing(spec Spec, kinds []Kind) error {
	var absent []Kind
	var errs []error
	for _, kind := range kinds {
		err := find(spec, kind)
		if err != nil && !errors.Is(err, errMissing) {
			return err // a version that was asked for says itself where it may come from
		}
		if err != nil {
			absent, errs = append(absent, kind), append(errs, err)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w; install %s by this system's own means", errors.Join(errs...), packageNames(absent))
	}
	return fmt.Errorf("%w; run: sudo apt-get update && sudo apt-get install -y --no-install-recommends %s",
		errors.Join(errs...), packageNames(absent))
}

func packageNames(kinds []Kind) string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = packages[kind]
	}
	return strings.Join(names, " ")
}

// becomeRoot is what to put before a command so that it runs as root without asking, if that is possible.
func becomeRoot(ctx context.Context) ([]string, bool) {
	if os.Geteuid() == 0 {
		return nil, true
	}
	if exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
		return nil, false
	}
	return []string{"sudo", "-n"}, true
}
